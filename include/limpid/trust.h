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

/// One star in the frame and in what became of it, mean over its channels.
struct StarChange {
  float x = 0, y = 0;                      ///< in the frame, px
  double flux_before = 0, flux_after = 0;  ///< in the frame's units
  double fwhm_before_px = 0, fwhm_after_px = 0;
  double centroid_shift_px = 0;
  double ellipticity_before = 0, ellipticity_after = 0;
};

/// Of isolated, unsaturated stars that could be fitted in both frames. The flux after is that before
/// and what an aperture of five FWHM and more finds in the difference; of perfectly sharpened
/// simulated nights (`simulate_night`) it still reads 1.3 to 1.5 % too much on a dark sky, for wings
/// reach further, and 0.2 to 4 % over nebulae.
struct TrustReport {
  int stars_compared = 0;
  MedianAndScatter flux_ratio, centroid_shift_px, fwhm_ratio, ellipticity_before, ellipticity_after;
  double fwhm_ratio_asked = 0;
  /// Change of the sky's noise, after over before.
  double noise_ratio = 0;
  std::string summary;  ///< in words
  std::vector<StarChange> stars;
};

/// A place whose recorded light the result does not explain.
struct DoubtfulTile {
  Rect tile;
  double rms = 0;          ///< of the residual there, in units of the noise
  double worst_sigma = 0;  ///< of 6 x 6 px together: what differs there, over what noise would
  bool clipped_star = false;  ///< within five FWHM of a clipped star, whose peak nobody knows
};

/// The result, blurred back to the measured PSF, against the frame that it was made from.
struct ReblurReport {
  double residual_rms = 0;       ///< over the frame, in units of the noise: 1 or less is right
  double star_residual_rms = 0;  ///< the same over the bright parts of stars; 0 without stars
  double unclipped_star_residual_rms = 0;  ///< and of those over five FWHM from clipped pixels
  int tiles = 0;                 ///< places looked at, 64 px wide
  std::vector<DoubtfulTile> doubtful;  ///< rms over 1.5, or 8 sigma in 6 x 6 px; worst first
};

/// Fits up to 150 isolated stars of `catalogue` (S/N 30 and more) in the frame that it comes from
/// and in what became of it, in the same way. Empty figures when there are none.
TrustReport compare_stars(const StarCatalogue& catalogue, ConstView before, ConstView after,
                          double fwhm_ratio_asked, int threads = 0, const Progress& progress = {});

}  // namespace limpid
