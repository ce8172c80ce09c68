// Finding point sources: one detection frame out of all channels, filtered with the star's shape.
#pragma once

#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

#include "measure/mesh.h"

namespace limpid {

/// All that detection needs to know of the channels under the stars.
struct SkyModel {
  std::vector<Coverage> coverage;
  std::vector<Mesh> mesh;
  std::vector<SkyLevel> level;
};
SkyModel model_sky(ConstView frame, int cell_px, int threads);

/// Sum of the channels over their sky, each weighted by signal over variance for a white star, in
/// units of the sky noise; 0 where any channel has no data.
Image detection_frame(ConstView frame, const SkyModel& sky, int threads);

/// A Gaussian of the star's width minus the mean of a box around it: smooth light gives nothing.
class MatchedFilter {
 public:
  explicit MatchedFilter(float fwhm_px);
  /// `frame` has one channel.
  [[nodiscard]] Image apply(ConstView frame, int threads) const;
  /// Noise after the filter over noise before, if the pixels' noise is independent.
  [[nodiscard]] float white_noise_gain() const;
  /// Furthest pixel that takes part.
  [[nodiscard]] int reach_px() const { return box_; }

 private:
  void filter_band(ConstView frame, MutableView out, int first, int last) const;

  std::vector<float> taps_;
  int box_;
};

struct Peak {
  int x = 0, y = 0;
  float sub_x = 0, sub_y = 0;  ///< px, to a fraction of a pixel
  float height = 0;            ///< of the filtered frame
  float snr = 0;               ///< height over the filtered frame's local scatter, nebulae included
  float pixel_snr = 0;  ///< height over what the pixels' own noise makes of the filtered frame
  /// Curvature over height along the axes where it is most and least; what a point source has is 1
  /// after division by that of the PSF.
  float most_curved = 0, least_curved = 0;
};

/// What a frame scatters from a pixel to its neighbours, in units in which independent noise keeps
/// its sigma: planes and saddles give nothing (Immerkaer 1996, CVIU 64, 300). At every other pixel
/// of every other row. `frame` has one channel.
Image roughness(ConstView frame, int threads);

/// Scatter of a filtered frame from place to place.
struct FilteredNoise {
  const Mesh& scatter;  ///< of all that is there: noise, and structure of nebulae
  float least = 0;      ///< any noise counts as that where it is less
  /// Of roughness(), which is noise alone; without it the scatter counts for the pixels' noise.
  const Mesh* roughness = nullptr;
  float noise_to_roughness = 0;  ///< noise of the filtered frame over that
};

/// Local maxima above `threshold` times the local scatter, or above `point_threshold` times the
/// noise of the pixels, from top to bottom.
std::vector<Peak> find_peaks(ConstView filtered, const FilteredNoise& noise, float threshold,
                             float point_threshold, int threads);

/// Half the distance between 16 % and 84 % of the samples, from the lower side: stars are on the
/// upper.
float lower_scatter(std::span<float> samples);

}  // namespace limpid
