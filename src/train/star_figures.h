// One simulated star before and after: width, shape, light, place, ring.
#pragma once

#include <limpid/training.h>

#include "train/simulator.h"

namespace limpid {

/// Mean over the three channels. NaN where it could not be told.
struct StarFigures {
  double fwhm_error = 0, ellipticity_before = 0, ellipticity_after = 0, flux_error = 0,
         flux_to_wanted = 0, centroid_before = 0, centroid_after = 0, ring = 0, colour = 0,
         previous_error = 0;
};
struct StarPictures {
  torch::Tensor before, after, wanted;  ///< (3, side, side)
  torch::Tensor previous;               ///< of other weights, or nothing
  double fwhm_before = 0, fwhm_wanted = 0;
  bool width_from_wanted = false;  ///< compare with the width of the same fit to `wanted`
};
/// Nothing when the star cannot be fitted in all channels of the first three pictures.
std::optional<StarFigures> judge_star(const StarPictures& pictures, const SimulatedStar& star);

/// A star whose core was clipped: the light within four FWHM, against the wanted picture.
struct ClippedFigures {
  double times_full_scale = 0;  ///< its peak, had it not been clipped
  double gain_db = 0, light_error = 0, ring = 0, peak_ratio = 0;
};
ClippedFigures judge_clipped_star(const StarPictures& pictures, const SimulatedStar& star,
                                  double psf_peak, double full_scale);

}  // namespace limpid
