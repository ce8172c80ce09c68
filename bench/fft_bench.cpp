// There and back again, as the guide planes of a tile and the re-blurring of a frame need it.
#include <benchmark/benchmark.h>

#include "core/fft.h"

namespace limpid {
namespace {

void there_and_back(benchmark::State& state) {
  const int side = static_cast<int>(state.range(0));
  const Image frame(1, {side, side}, 0.5F);
  for (auto _ : state) benchmark::DoNotOptimize(inverse_fft(fft(frame.view())));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(frame.size().pixels()));
}
// one tile, 1 and 16 megapixels
BENCHMARK(there_and_back)->Arg(512)->Arg(1024)->Arg(4096)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace limpid
