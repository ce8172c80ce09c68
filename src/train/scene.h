// Stars on the sky: where, how bright, what colour, and how they fall on the sensor.
#pragma once

#include <vector>

#include "train/simulator.h"

namespace limpid {

/// A star of a scene; position in quarter pixels of the field.
struct SceneStar {
  int qx = 0, qy = 0;
  std::array<float, 3> flux{};
};

/// What decides the stars of a scene beside its options.
struct StarField {
  int field = 0;       ///< side in pixels
  double fwhm_px = 0;  ///< isolated stars keep their distance by it
  float psf_peak = 1;  ///< of the oversampled PSF: flux is peak over it
  std::array<double, 3> channel_scale{1, 1, 1};
  bool dense = false;  ///< a third of them in one cluster
};
/// Stars by a luminosity function, or on a jittered lattice where they shall be isolated.
std::vector<SceneStar> draw_stars(Random& random, const SceneOptions& options,
                                  const StarField& sky);

/// Adds each star's light: `psfs` hold (3 or 1, psf_grid, psf_grid); `weight_there` is the share of
/// the second one at a place in the field (nothing: 0). `reach_level`: light below this is left
/// out. The field is periodic.
void add_stars(torch::Tensor& field, const std::vector<SceneStar>& stars, const torch::Tensor& here,
               const torch::Tensor& there, const std::function<float(int, int)>& weight_there,
               float reach_level);

/// Radius in pixels within which each channel of an oversampled PSF keeps more than a given share
/// of its peak.
class PsfReach {
 public:
  explicit PsfReach(const torch::Tensor& oversampled);
  /// Smallest radius outside which flux * psf < level.
  [[nodiscard]] int radius_px(float flux, float level) const;

 private:
  std::array<float, psf_side_px / 2 + 1> outside_{};  // largest value beyond each radius
};

}  // namespace limpid
