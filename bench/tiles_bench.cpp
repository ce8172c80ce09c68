// A frame cut into tiles and blended together again: the cost of tiling beside the network's.
#include <benchmark/benchmark.h>

#include <limpid/tiles.h>

namespace limpid {
namespace {

void extract_and_blend(benchmark::State& state) {
  const int side = static_cast<int>(state.range(0));
  const Image frame(3, {side, side}, 0.5F);
  const TileGrid grid(frame.size(), 512, 102);
  for (auto _ : state) {
    TileBlender blender(grid, frame.channels());
    for (int i = 0; i < grid.count(); ++i) blender.add(i, grid.extract(frame.view(), i).view());
    benchmark::DoNotOptimize(std::move(blender).finish());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(frame.size().pixels()));
}
// 1 and 16 megapixels
BENCHMARK(extract_and_blend)->Arg(1024)->Arg(4096)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace limpid
