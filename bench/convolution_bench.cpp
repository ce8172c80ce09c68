// The network by LibTorch's convolutions and by our own, one thread: what src/nn/convolution.h is
// worth. Rows of what the processor lacks say so. What LibTorch takes without AVX-512:
// ONEDNN_MAX_CPU_ISA=AVX2 limpid_bench --benchmark_filter=network/libtorch_f32
#include <benchmark/benchmark.h>

#include <vector>

#include "nn/architecture.h"
#include "nn/model_file.h"
#include "nn/tensors.h"
#include "nn/unet_on_cpu.h"

namespace limpid {
namespace {

/// Items are pixels.
void network(benchmark::State& state, bool narrow, Arithmetic by) {
  if (!has_convolutions(by)) {
    state.SkipWithError("not on this processor");
    return;
  }
  const torch::NoGradGuard no_grad;
  at::set_num_threads(1);
  constexpr int side = 512;
  const Rect whole{0, 0, side, side};
  const Model model = load_model(LIMPID_BENCH_MODEL);
  model.network->to(narrow ? torch::kBFloat16 : torch::kFloat);
  model.network->lay_channels_last();
  const auto picture = torch::randn({plane_count, side, side});
  std::vector<Plane> planes;
  for (int p = 0; p < plane_count; ++p) planes.push_back({picture[p].data_ptr<float>(), side});
  if (by == Arithmetic::libtorch) {
    const auto controls = torch::zeros({1, control_count});
    for (auto _ : state)
      benchmark::DoNotOptimize(model.network->infer(planes, whole.size(), whole, controls));
  } else {
    Parameters parameters;
    for (const auto& item : model.network->named_parameters())
      parameters[item.key()] = to_parameter(item.value());
    const auto own = make_unet_on_cpu(parameters, shape_of(model.info).blocks, narrow, by);
    const std::vector<float> controls(control_count);
    for (auto _ : state)
      benchmark::DoNotOptimize(own->run(planes, whole.size(), whole, controls, 1));
  }
  state.SetItemsProcessed(state.iterations() * side * side);
}
BENCHMARK_CAPTURE(network, libtorch_bf16, true, Arithmetic::libtorch)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(network, own_bf16, true, Arithmetic::bfloats)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(network, own_bf16_in_floats, true, Arithmetic::floats_by_16)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(network, libtorch_f32, false, Arithmetic::libtorch)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(network, own_f32, false, Arithmetic::floats_by_16)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(network, own_f32_avx2, false, Arithmetic::floats_by_8)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace limpid
