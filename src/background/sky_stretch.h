// The midtones transfer that gives the sky most of the range from 0 to 1, and its inverse.
#pragma once

#include <limpid/background.h>

namespace limpid::background {

/// mtf(x) = (1 - m) x / ((1 - r m) x + (r - 1) m) takes 0 to 0, m to 1/r, 1 to 1 (XISF 1.0, 8.5.7,
/// with a target other than 1/2; r = 4). `x` is not clipped here.
inline constexpr float stretch_ratio = 4;
/// The median m is kept inside these, where the transfer is far from its poles.
inline constexpr float smallest_median = 0.02F, largest_median = 0.9F;

/// The inverse of `unstretched` everywhere, for surfaces; not clipped.
float stretched_open(const SkyStretch& stretch, float value);
/// Of a pixel; clipped to [0, 1]. NaN stays.
float stretched(const SkyStretch& stretch, float pixel);
/// The inverse; outside [0, 1] it goes on straight, so that it has no poles.
float unstretched(const SkyStretch& stretch, float value);

}  // namespace limpid::background
