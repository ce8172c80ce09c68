// What is added to a spline that has too few points for a sky.
#pragma once

#include <functional>
#include <span>

#include <limpid/image.h>

namespace limpid::background {

/// A surface known at places spread evenly from the first pixel of a frame to the last; between
/// them cubic convolution.
class Correction {
 public:
  /// `values`: (channels, rows, columns), at least 3 x 3. One channel serves all.
  explicit Correction(ConstView values);
  /// Adds to the values of all channels; 0..1 from the first pixel to the last.
  void add(double across, double down, std::span<float> values) const;

 private:
  Image nodes_;  // with one more at each end
};

/// A place around which a correction no longer holds.
struct Gap {
  double x, y, radius;  ///< px of the frame
};

/// Nothing is left of the values in the middle of each gap, all of them from its radius on.
void fade(MutableView values, Size frame, std::span<const Gap> gaps);

/// Values of a surface at such places, 24 intervals along the longer side; `at` fills those of all
/// channels at a pixel.
Image make_correction(int channels, Size frame,
                      const std::function<void(double x, double y, std::span<float> values)>& at);

}  // namespace limpid::background
