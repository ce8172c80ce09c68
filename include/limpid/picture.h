// Frames made visible: linear pixels are nearly black on a screen.
#pragma once

#include <cstddef>
#include <functional>
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

struct StretchOptions {
  float sky = 0.25F;    ///< how bright the sky is shown, over 0 and under 1
  bool linked = false;  ///< one black point for all channels: the sky keeps the colour it has
};

/// From the frame's median and noise, as the screen transfer function of PixInsight does it.
Stretch measure_stretch(ConstView frame, const StretchOptions& options = {});

/// Shows `frame`: values in [0, 1], NaN black.
Image apply(const Stretch& stretch, ConstView frame);

/// A frame at full size, at half of it, a quarter, ... until it fits into `smallest_px`: what it
/// takes to show any part of it at any scale. Refers to the frame, which must outlive it. Each
/// pixel is the mean of the four (at the edges: fewer) under it that are not NaN.
class Pyramid {
 public:
  explicit Pyramid(ConstView frame, int smallest_px = 256, int threads = 0);
  [[nodiscard]] int levels() const { return static_cast<int>(halved_.size()) + 1; }
  /// Level 0 is the frame itself, each following one ceil(size / 2).
  [[nodiscard]] ConstView level(int index) const;

 private:
  ConstView frame_;
  std::vector<Image> halved_;
};

/// One pixel of every `step` x `step` (at the edges: of what there is), near its middle: a first
/// sight of a large frame that is not in memory. `read` gives a part of it and is asked for rows.
Image every(int step, Size frame, const std::function<Image(Rect)>& read);

/// How many pixels have which value, per channel, in equal bins from 0 to 1. Values outside count
/// for the first and last bin, NaN for none.
std::vector<std::vector<std::size_t>> measure_histogram(ConstView picture, int bins);

/// A map of signed differences as colours: dark grey where there is none, towards red above and
/// towards blue below, full at `full_scale`. Of several channels that which differs most.
Image show_differences(ConstView map, float full_scale);

/// Whether one channel is the mosaic of a colour camera that nobody has debayered: in cells of 2 x
/// 2 pixels the sky is equally bright on one diagonal (green) and not on the other.
bool looks_like_mosaic(ConstView frame);

/// Each pixel as a square of `factor` x `factor` pixels.
Image enlarge(ConstView frame, int factor);

}  // namespace limpid
