// Giving stars the light back that the network lost, or taking what it made up.
#pragma once

#include <functional>

#include <limpid/deconvolve.h>
#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// What is known of a frame and of what was made of a part of it.
struct LightBalance {
  ConstView before;                ///< the whole frame, without gaps
  Rect part;                       ///< which part of it was restored
  const StarCatalogue& catalogue;  ///< of the whole frame
  const PsfField& field;           ///< its measured PSF
  /// The PSF that stars shall have at a place: round, the same in all channels.
  std::function<Psf(float x, float y)> wanted;
  int threads = 0;
};

/// A Moffat with wider wings than this has its light anywhere: it describes a core, not a star.
inline constexpr float least_beta = 1.6F;
/// Stars reach this far from their centres in this reckoning, in FWHM of the frame.
inline constexpr float light_reach_fwhm = 4.5F;
/// A part must be so much larger on each side than what is wanted of it, in FWHM.
inline constexpr float light_margin_fwhm = 2 * light_reach_fwhm;

/// Sharpening moves a star's light but adds none. So per channel the difference between result and
/// frame, summed over an aperture, must be what both PSFs say of their wings outside it; what is
/// missing is put in, in the shape of the PSF wanted. Stars whose apertures overlap are solved for
/// together, under a prior that errors are of ten per cent (ridge regression, Gauss-Seidel).
/// Clipped, faint (S/N under 15) and cut stars stay as they are, those with another nearer than two
/// FWHM, all stars where the PSF's wings
/// are too wide to be told (beta under 1.6). `after` has the size of the part.
BalancedLight balance_light(const LightBalance& known, MutableView after);

}  // namespace limpid
