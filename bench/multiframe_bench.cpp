// Seconds per frame and iteration of the multi-frame solver, by the clock and by the processor, the
// share of its time spent in Fourier transforms and their number, beside what
// bench/multiframe_reference.py takes for the same update.
// limpid_multiframe_bench [SIDE FRAMES ITERATIONS THREADS]
#include <limpid/multiframe.h>

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "frame_sets.h"

namespace {

/// Of all threads of this process: other programs on the machine take no part of it.
double processor_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace limpid;
  // as the program limpid does
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  const auto number = [&](int i, int usual) { return argc > i ? std::atoi(argv[i]) : usual; };
  const int side = number(1, 1024), frames = number(2, 8), iterations = number(3, 10);
  const int threads = number(4, 0);
  synthetic::FrameSetSettings settings;
  settings.size = {side, side};
  settings.frames = frames;
  settings.spacing_px = 60;
  const synthetic::FrameSet set = synthetic::make_frame_set(settings);
  auto inputs = set.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].psf = set.psfs[i].kernel(65);
  MultiframeOptions options;
  options.iterations = iterations;
  options.early_stop = false;
  options.threads = threads;
  std::vector<double> processor;  // after each iteration
  options.on_iteration = [&](const IterationSummary&) { processor.push_back(processor_seconds()); };
  const Multiframe result = deconvolve_frames(inputs, options);
  const MultiframeReport& report = result.report;
  // the first iteration also makes plans and transforms the PSFs
  double least = 1e9, sum = 0, least_processor = 1e9;
  for (std::size_t i = 1; i < report.iterations.size(); ++i) {
    least_processor = std::min(least_processor, processor[i] - processor[i - 1]);
    least = std::min(least, report.iterations[i].seconds);
    sum += report.iterations[i].seconds;
  }
  const double per =
      std::max<double>(1, static_cast<double>(report.iterations.size()) - 1) * frames;
  std::printf(
      "%d frames of %d x %d, PSFs of %d px, %d tiles, transforms of %d x %d\n"
      "seconds per frame and iteration: %.4f mean, %.4f best; of the processor: %.4f mean, %.4f "
      "best\n"
      "real transforms per frame, iteration and tile: %.2f (3, and 3 for all %d frames)\n"
      "share of the time in transforms: %.0f %%\n",
      frames, side, side, report.kernel_px, report.tiles, report.tile.width, report.tile.height,
      sum / per, least / frames, (processor.back() - processor.front()) / per,
      least_processor / frames, report.transforms_per_frame, frames, 100 * report.transform_share);
  return 0;
}
