// One tile through the network, with its guide planes, and the whole of a frame.
#include <benchmark/benchmark.h>

#include <cmath>

#include <limpid/deconvolve.h>
#include <limpid/error.h>
#include <limpid/network.h>

namespace limpid {
namespace {

TileControls controls() {
  TileControls c;
  for (Psf& psf : c.measured) psf = {.fwhm_px = 3, .beta = 4, .e1 = 0.1F};
  c.nonstellar = c.measured;
  return c;
}

Image noise(int channels, Size size) {
  Image image(channels, size);
  unsigned state = 1;
  for (float& pixel : image.pixels()) {
    float sum = 0;
    for (int i = 0; i < 4; ++i)
      sum += static_cast<float>((state = state * 1664525U + 1013904223U) >> 8) / 16777216.0F - 0.5F;
    pixel = 1.7F * sum;
  }
  return image;
}

/// Items are pixels.
void tile(benchmark::State& state, Precision precision) {
  const Network network = Network::load(LIMPID_BENCH_MODEL, Device::parse("cpu"), precision);
  const int side = static_cast<int>(state.range(0)), margin = 2 * Network::margin_px();
  const Image light = noise(3, {side + margin, side + margin}), clipped(1, {side, side});
  for (auto _ : state)
    benchmark::DoNotOptimize(network.run(light.view(), clipped.view(), controls()));
  state.SetItemsProcessed(state.iterations() * side * side);
}
BENCHMARK_CAPTURE(tile, f32, Precision::f32)
    ->Arg(512)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(tile, bf16, Precision::bf16)
    ->Arg(512)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace limpid
