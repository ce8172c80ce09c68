// Writes what a run of the multi-frame solver starts from and what each iteration gives, so that
// bench/multiframe_reference.py can do the same with scipy and compare.
// limpid_multiframe_agreement FOLDER [SIDE FRAMES ITERATIONS]
#include <limpid/multiframe.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "frame_sets.h"
#include "multiframe/frame_stream.h"
#include "multiframe/kernels.h"
#include "multiframe/seed.h"
#include "multiframe/solver.h"
#include "multiframe/survey.h"

namespace {

namespace fs = std::filesystem;
using namespace limpid;

void write(const fs::path& path, std::span<const float> values) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr ||
      std::fwrite(values.data(), sizeof(float), values.size(), file) != values.size())
    std::exit(1);
  std::fclose(file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const fs::path folder = argv[1];
  const auto number = [&](int i, int usual) { return argc > i ? std::atoi(argv[i]) : usual; };
  const int side = number(2, 320), frames = number(3, 6), iterations = number(4, 8);
  fs::create_directories(folder);
  synthetic::FrameSetSettings settings;
  settings.size = {side, side};
  settings.frames = frames;
  settings.satellites = true;
  settings.cosmic_rays = side * side / 4000;
  settings.sky_step = 2;
  settings.scale_step = 0.1F;
  settings.nebula_sigma = 10;
  settings.gain = 2;
  const synthetic::FrameSet set = synthetic::make_frame_set(settings);
  auto inputs = set.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].psf = set.psfs[i].kernel(65);
  MultiframeOptions options;
  options.memory_bytes = std::size_t{1} << 30;
  const multiframe::Survey survey = multiframe::survey(inputs, options, true, {});
  multiframe::FrameStream stream(inputs, survey, options);
  Image seed =
      multiframe::stack(stream, multiframe::Stack::robust, std::size_t{64} << 20, {}, 0, {});
  const float pedestal = 7 / std::sqrt(static_cast<float>(frames));
  stream.set_pedestal(pedestal);
  for (float& value : seed.pixels()) value += pedestal;
  const int reach = multiframe::native_reach(inputs, survey);
  auto kernels = multiframe::make_kernels(inputs, survey, options, reach, {});
  std::vector<float> sigmas;
  for (int i = 0; i < stream.count(); ++i) {
    const std::string name = std::to_string(i);
    write(folder / ("frame-" + name), stream.load(i, {0, 0, side, side}).pixels());
    write(folder / ("kernel-" + name), kernels[0][static_cast<std::size_t>(i)].pixels());
    sigmas.push_back(stream.sigma(i, 0));
  }
  write(folder / "sigmas", sigmas);
  multiframe::Solver solver(stream, options, std::move(kernels), reach, {});
  solver.begin(std::move(seed));
  for (int i = 0; i <= iterations; ++i) {
    if (i > 0) static_cast<void>(solver.iterate({}));
    const MultiframeState state = solver.state();
    write(folder / ("estimate-" + std::to_string(i)), state.estimate.pixels());
    write(folder / ("noise-" + std::to_string(i)), state.noise);
  }
  std::FILE* file = std::fopen((folder / "set.txt").c_str(), "w");
  if (file == nullptr) return 1;
  std::fprintf(file, "%d %d %d %d %.9g\n", side, frames, iterations, reach,
               static_cast<double>(pedestal));
  std::fclose(file);
  return 0;
}
