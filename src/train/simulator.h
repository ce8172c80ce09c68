// What the trainer sees of the simulator: scenes as tensors, guide planes included.
#pragma once

#include <torch/torch.h>

#include <limpid/training.h>

#include "nn/tensors.h"
#include "train/corpus.h"
#include "train/telescope.h"
#include "train/torch_training.h"

namespace limpid {

/// A scene on a periodic field of `side + 2 * 32` pixels. Tensors have shape (3, field, field).
struct SceneTensors {
  torch::Tensor input, target, saturated;  ///< saturated: (1, field, field)
  torch::Tensor blurred, ideal;
  std::vector<SimulatedStar> stars;  ///< positions in the inner frame
  std::array<Psf, 3> true_psf;
  std::array<torch::Tensor, 3> kernels;
  TileControls controls;
  WantedPsfs wanted;
  Aberration aberration = Aberration::none;
  Recording recording = Recording::plain;
  double saturation_level = 0;
};

/// Border of the field that is not shown.
inline constexpr int procedural_px = 512;
inline constexpr int scene_margin_px = psf_side_px / 2;

/// The middle of a field: (.., side, side) of (.., field, field).
torch::Tensor inner(const torch::Tensor& x, int side);

/// What Simulator hides.
class SceneSimulator : public SceneDrawer {
 public:
  SceneSimulator(const std::filesystem::path& corpus_file, bool validation,
                 std::uint64_t first_seed, int psf_bank, int threads,
                 const Progress& progress = {});
  [[nodiscard]] SimulatedScene draw(std::uint64_t index,
                                    const SceneOptions& options) const override;
  [[nodiscard]] std::string corpus_hash() const override;
  [[nodiscard]] SceneTensors draw_tensors(std::uint64_t index, const SceneOptions& options) const;
  /// A turned window of the bank of procedural skies, or a new one when there is no bank.
  [[nodiscard]] torch::Tensor draw_sky(Random& random, int side) const;

  std::optional<CorpusPatches> corpus;
  std::vector<BankPsf> bank;
  std::vector<torch::Tensor> procedural;  ///< (3, procedural_px, procedural_px), half precision
  std::uint64_t seed;
};

/// Spectrum (.., height, width / 2 + 1) of whole-pixel kernels (.., psf_side_px, psf_side_px) whose
/// centre is moved to pixel (0, 0).
torch::Tensor kernel_spectrum(const torch::Tensor& kernel, std::int64_t height, std::int64_t width);

}  // namespace limpid
