// Which parts of a frame are no sky: stars, galaxies, nebulae, and foregrounds darker than the sky.
#pragma once

#include <limits>
#include <vector>

#include <limpid/image.h>

namespace limpid::background {

/// Never more than this share of the pixels that had been sky is called object.
inline constexpr double most_masked = 0.7;

struct Objects {
  Image mask;              ///< (1, height, width): the given one with the objects at 0, too
  double large_share = 0;  ///< of the pixels that had been sky: found at scales above 5 px
  /// Scatter of what is left of the sky, without objects below 5 px, in means over 9 x 9 pixels;
  /// in units of `noise`; infinite where the frame is too small to tell.
  double roughness = std::numeric_limits<double>::infinity();
};

/// `frame`: downscaled, linear, NaN without data; `mask` (1, height, width): 0 is left out already.
/// What stands out from `sky`, a frame of the same shape, is looked for at scales from one pixel to
/// an eighth of the frame and grown down to where it is lost in the sky. `noise`: of one pixel of
/// the original frame per channel.
Objects find_objects(ConstView frame, ConstView mask, ConstView sky,
                     const std::vector<float>& noise);

}  // namespace limpid::background
