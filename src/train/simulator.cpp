#include "train/simulator.h"

#include <omp.h>

#include <limpid/error.h>

#include "core/parallel.h"
#include "train/procedural.h"

namespace limpid {

using torch::indexing::Slice;

torch::Tensor kernel_spectrum(const torch::Tensor& kernel, std::int64_t height,
                              std::int64_t width) {
  auto shape = kernel.sizes().vec();
  shape[shape.size() - 2] = height;
  shape[shape.size() - 1] = width;
  auto field = torch::zeros(shape);
  field.index_put_({torch::indexing::Ellipsis, Slice(0, psf_side_px), Slice(0, psf_side_px)},
                   kernel);
  return torch::fft::rfft2(field.roll({-psf_side_px / 2, -psf_side_px / 2}, {-2, -1}));
}

torch::Tensor SceneSimulator::draw_sky(Random& random, int side) const {
  if (procedural.empty() || side > procedural_px) return draw_procedural(random, side, side);
  const auto& sky =
      procedural[static_cast<std::size_t>(random.index(static_cast<int>(procedural.size())))];
  const int x = random.index(procedural_px - side + 1), y = random.index(procedural_px - side + 1);
  return turned(sky.narrow(1, y, side).narrow(2, x, side), random.index(8))
      .to(torch::kFloat)
      .contiguous();
}

SceneSimulator::SceneSimulator(const std::filesystem::path& corpus_file, bool validation,
                               std::uint64_t first_seed, int psf_bank, int threads,
                               const Progress& progress)
    : bank(static_cast<std::size_t>(psf_bank)),
      procedural(static_cast<std::size_t>(psf_bank / 4)),
      seed(first_seed) {
  if (!corpus_file.empty()) corpus = CorpusPatches::load(corpus_file, validation);
  progress(0, "preparing skies");
  parallel_for(psf_bank / 4, threads, [&](int i) {
    const torch::NoGradGuard no_grad;
    omp_set_num_threads(1);
    Random random(seed ^ 0x51a7ULL, static_cast<std::uint64_t>(i));
    procedural[static_cast<std::size_t>(i)] =
        draw_procedural(random, procedural_px, procedural_px).to(torch::kHalf);
  });
  progress(0, "preparing PSFs");
  parallel_for(psf_bank, threads, [&](int i) {
    const torch::NoGradGuard no_grad;
    omp_set_num_threads(1);
    Random random(seed ^ 0x9f5fULL, static_cast<std::uint64_t>(i));
    for (;;) {
      const auto aberration = draw_aberration(random);
      if (auto drawn = draw_psf(random, aberration, random.log_uniform(1.5, 7.5))) {
        bank[static_cast<std::size_t>(i)] = std::move(*drawn);
        return;
      }
    }
  });
}

std::string SceneSimulator::corpus_hash() const { return corpus ? corpus->hash() : "procedural"; }

std::unique_ptr<SceneDrawer> by_libtorch::make_drawer(const std::filesystem::path& corpus,
                                                      bool validation, std::uint64_t seed,
                                                      int psf_bank, int threads,
                                                      const Progress& progress) {
  return std::make_unique<SceneSimulator>(corpus, validation, seed, psf_bank, threads, progress);
}

torch::Tensor inner(const torch::Tensor& x, int side) {
  const auto from = (x.size(-1) - side) / 2;
  return x.narrow(-2, from, side).narrow(-1, from, side).contiguous();
}

SimulatedScene SceneSimulator::draw(std::uint64_t index, const SceneOptions& options) const {
  const SceneTensors tensors = draw_tensors(index, options);
  SimulatedScene scene;
  const auto shown = [&](const torch::Tensor& x) { return to_image(inner(x, options.side_px)); };
  scene.input = shown(tensors.input);
  scene.target = shown(tensors.target);
  scene.saturated = shown(tensors.saturated);
  scene.blurred = shown(tensors.blurred);
  scene.ideal = shown(tensors.ideal);
  for (std::size_t c = 0; c < 3; ++c) scene.kernels[c] = to_image(tensors.kernels[c].unsqueeze(0));
  scene.stars = tensors.stars;
  scene.true_psf = tensors.true_psf;
  scene.controls = tensors.controls;
  scene.wanted = tensors.wanted;
  scene.aberration = tensors.aberration;
  scene.recording = tensors.recording;
  scene.saturation_level = tensors.saturation_level;
  return scene;
}

}  // namespace limpid
