// What became of the stars: photometry and astrometry before and after.
#pragma once

#include <string>
#include <vector>

#include <limpid/image.h>
#include <limpid/progress.h>
#include <limpid/stars.h>

namespace limpid {

/// Median, and half the width of the central 68 %.
struct MedianAndScatter {
  double median = 0, scatter = 0;
};

/// Of isolated, unsaturated stars that could be fitted in both frames.
struct TrustReport {
  int stars_compared = 0;
  MedianAndScatter flux_ratio, centroid_shift_px, fwhm_ratio, ellipticity_before, ellipticity_after;
  double fwhm_ratio_asked = 0;
  /// Change of the sky's noise, after over before.
  double noise_ratio = 0;
  std::string summary;  ///< in words
};

/// Fits up to 150 isolated stars of `catalogue` (S/N 30 and more) in the frame that it comes from
/// and in what became of it, in the same way. Empty figures when there are none.
TrustReport compare_stars(const StarCatalogue& catalogue, ConstView before, ConstView after,
                          double fwhm_ratio_asked, int threads = 0, const Progress& progress = {});

}  // namespace limpid
