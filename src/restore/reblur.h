// The re-blurring test: does the result still explain the frame that it was made from?
#pragma once

#include <complex>
#include <functional>
#include <span>

#include <limpid/network.h>
#include <limpid/trust.h>

#include "core/complex_lanes.h"

namespace limpid {

/// One frequency of what a PSF of transfer `wanted` shows, as the `measured` one would show it.
inline constexpr float smallest_blurring_power = 1e-4F;  // so that nothing is divided by zero
inline std::complex<float> blurred_back(std::complex<float> value, std::complex<float> measured,
                                        std::complex<float> wanted) {
  return value * measured * std::conj(wanted) / (std::norm(wanted) + smallest_blurring_power);
}
/// Of 1, four values at a time.
inline FloatLanes blurred_back(FloatLanes measured, FloatLanes wanted) {
  return product(measured, conjugate(wanted)) / (powers(wanted) + smallest_blurring_power);
}

struct Reblurring {
  /// Shape of the frame: re-blurred result minus frame, in units of the noise. Empty if not kept.
  Image residual;
  ReblurReport report;
};

struct ReblurInput {
  ConstView before, after;               ///< same shape, no NaN
  ConstView missing;                     ///< (1, h, w), not 0 where there were no data; or empty
  const StarCatalogue& catalogue;        ///< of `before`
  std::span<const float> photon_shares;  ///< per channel: noise_model.h
  double fwhm_px = 3;                    ///< typical
  /// What was asked for at a place, PSFs included.
  std::function<TileControls(float x, float y)> controls_at;
  bool keep_residual = true;
};

/// Stars are taken back from the PSF wanted for them to the measured one, everything else from the
/// one wanted for it; the sum is compared with the frame. Noise: sky, photons (their share is read
/// off the frame), and a PSF known to 2 % at stars. Clipped pixels that the result explains count
/// as right.
Reblurring test_by_reblurring(const ReblurInput& input, int threads, const Progress& progress = {});

}  // namespace limpid
