// The network by LibTorch's convolutions and by our own, one thread: what src/nn/convolution.h is
// worth. Without AVX-512, and with AMX in bfloat16, both rows are LibTorch's.
#include <benchmark/benchmark.h>

#include "nn/architecture.h"
#include "nn/model_file.h"

namespace limpid {
namespace {

/// Items are pixels.
void network(benchmark::State& state, torch::ScalarType type, bool own) {
  const torch::NoGradGuard no_grad;
  at::set_num_threads(1);
  constexpr int side = 512;
  const Model model = load_model(LIMPID_BENCH_MODEL);
  model.network->to(type);
  model.network->lay_channels_last();
  if (own) model.network->settle();
  const auto picture = torch::randn({plane_count, side, side});
  std::vector<Plane> planes;
  for (int p = 0; p < plane_count; ++p) planes.push_back({picture[p].data_ptr<float>(), side});
  const auto controls = torch::zeros({1, control_count});
  for (auto _ : state)
    benchmark::DoNotOptimize(
        model.network->infer(planes, {side, side}, {0, 0, side, side}, controls));
  state.SetItemsProcessed(state.iterations() * side * side);
}
BENCHMARK_CAPTURE(network, libtorch_bf16, torch::kBFloat16, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(network, own_bf16, torch::kBFloat16, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(network, libtorch_f32, torch::kFloat, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(network, own_f32, torch::kFloat, true)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace limpid
