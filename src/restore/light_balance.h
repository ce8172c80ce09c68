// Giving stars the light back that the network lost, or taking what it made up.
#pragma once

#include <functional>

#include <limpid/deconvolve.h>
#include <limpid/image.h>
#include <limpid/stars.h>

#include "restore/restored_part.h"

namespace limpid {

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
/// FWHM, all stars where the PSF's wings are too wide to be told (beta under 1.6). `field`: the
/// measured PSF. `wanted`: the PSF that stars shall have at a place: round, the same in all
/// channels. `after` has the size of the part.
BalancedLight balance_light(const RestoredPart& known, const PsfField& field,
                            const std::function<Psf(float x, float y)>& wanted, MutableView after);

}  // namespace limpid
