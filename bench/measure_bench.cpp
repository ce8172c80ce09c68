// What measuring costs: it is a part of every deconvolution.
#include <benchmark/benchmark.h>
#include <limpid/stars.h>

#include "synthetic.h"

namespace limpid {
namespace {

/// 300 stars to the megapixel, S/N 10 to 1000, as in a frame of the summer Milky Way.
Image star_field(int side, int channels) {
  synthetic::FieldSettings settings;
  settings.size = {side, side};
  settings.channels = channels;
  settings.stars = static_cast<int>(300LL * side * side / 1'000'000);
  settings.snr_min = 10;
  settings.snr_max = 1000;
  return synthetic::make_field(settings).frame;
}

void measure_frame(benchmark::State& state) {
  const Image frame = star_field(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  for (auto _ : state) {
    const StarCatalogue catalogue = detect_stars(frame.view());
    benchmark::DoNotOptimize(fit_psf_field(catalogue));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(frame.size().pixels()));
}
// side, channels: 1 and 16 megapixels
BENCHMARK(measure_frame)->Args({1024, 1})->Args({4096, 1})->Args({4096, 3})
    ->Unit(benchmark::kMillisecond)->UseRealTime();

void render_kernel(benchmark::State& state) {
  const Psf psf{3.0F, 3.0F, 0.1F, 0.0F, 0.2F, 0.1F};
  for (auto _ : state) benchmark::DoNotOptimize(psf.kernel(64));
  state.SetItemsProcessed(state.iterations() * 64 * 64);
}
BENCHMARK(render_kernel)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace limpid
