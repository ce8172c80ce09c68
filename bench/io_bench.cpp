// Reading and writing whole frames, against `cp` of the same bytes. The folder is TMPDIR or /tmp:
// on a disk the flush that makes a write safe is part of the time, on a tmpfs it costs nothing.
// A busy machine disturbs all of them: compare the smallest of many repetitions in random order,
//   TMPDIR=/dev/shm limpid_bench --benchmark_filter='(copy_file|read|write).*/16'
//     --benchmark_repetitions=20 --benchmark_enable_random_interleaving=true
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <limpid/io.h>

namespace limpid {
namespace {

namespace fs = std::filesystem;

/// A folder with a colour frame of `megapixels` in every format, removed at the end.
class Frames {
 public:
  explicit Frames(int megapixels) : folder_(fs::temp_directory_path() / "limpid-io-bench") {
    fs::create_directories(folder_);
    const int side = static_cast<int>(std::sqrt(1e6 * megapixels));
    frame_.image = Image(3, {side, side});
    unsigned random = 1;
    for (float& pixel : frame_.image.pixels()) {
      random = random * 1664525U + 1013904223U;  // Numerical Recipes
      pixel = static_cast<float>(random >> 8) / 16777216.0F;
    }
  }
  ~Frames() { fs::remove_all(folder_); }
  Frames(const Frames&) = delete;
  Frames& operator=(const Frames&) = delete;

  [[nodiscard]] const Frame& frame() const { return frame_; }
  [[nodiscard]] fs::path path(const std::string& name) const { return folder_ / name; }

 private:
  fs::path folder_;
  Frame frame_;
};

void count(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * state.range(0) * 1000000);
}

void copy_file(benchmark::State& state) {
  const Frames frames(static_cast<int>(state.range(0)));
  write_frame(frames.path("a.fits"), frames.frame());
  const std::string command =
      "cp " + frames.path("a.fits").string() + " " + frames.path("b.fits").string();
  for (auto _ : state) {
    if (std::system(command.c_str()) != 0) state.SkipWithError("cp failed");
  }
  count(state);
}

void read(benchmark::State& state, const char* name) {
  const Frames frames(static_cast<int>(state.range(0)));
  write_frame(frames.path(name), frames.frame());
  for (auto _ : state)
    benchmark::DoNotOptimize(read_frame(frames.path(name)).image.pixels().data());
  count(state);
}

void write(benchmark::State& state, const char* name) {
  const Frames frames(static_cast<int>(state.range(0)));
  for (auto _ : state) write_frame(frames.path(name), frames.frame(), {.overwrite = true});
  count(state);
}

double smallest(const std::vector<double>& times) { return *std::ranges::min_element(times); }

void at_both_sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1)->Arg(16)->UseRealTime()->Unit(benchmark::kMillisecond);
  benchmark->MinWarmUpTime(0.1)->ComputeStatistics("min", smallest);
}

BENCHMARK(copy_file)->Apply(at_both_sizes);
BENCHMARK_CAPTURE(read, fits, "a.fits")->Apply(at_both_sizes);
BENCHMARK_CAPTURE(read, xisf, "a.xisf")->Apply(at_both_sizes);
BENCHMARK_CAPTURE(read, tiff, "a.tif")->Apply(at_both_sizes);
BENCHMARK_CAPTURE(write, fits, "b.fits")->Apply(at_both_sizes);
BENCHMARK_CAPTURE(write, xisf, "b.xisf")->Apply(at_both_sizes);
BENCHMARK_CAPTURE(write, tiff, "b.tif")->Apply(at_both_sizes);

}  // namespace
}  // namespace limpid
