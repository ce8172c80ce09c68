// Frames made visible: linear pixels are nearly black on a screen.
#pragma once

#include <vector>

#include <limpid/image.h>

namespace limpid {

/// Black point and midtones that show the sky as a dark grey and what lies above it as much
/// brighter. Made from one frame it can be applied to another: the same pixel value then looks the
/// same.
struct Stretch {
  std::vector<float> black;  ///< per channel, in the frame's units
  float midtones = 0.5F;  ///< the value that becomes 0.5; the same for all channels, to keep colour
};

/// From the frame's median and noise, as the screen transfer function of PixInsight does it.
Stretch measure_stretch(ConstView frame);

/// Shows `frame`: values in [0, 1], NaN black.
Image apply(const Stretch& stretch, ConstView frame);

/// Each pixel as a square of `factor` x `factor` pixels.
Image enlarge(ConstView frame, int factor);

}  // namespace limpid
