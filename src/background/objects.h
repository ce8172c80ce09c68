// Which parts of a frame are no sky: stars, galaxies, nebulae, and foregrounds darker than the sky.
#pragma once

#include <limpid/image.h>

namespace limpid::background {

/// Never more than this share of the pixels that had been sky is called object.
inline constexpr double most_masked = 0.7;

/// `frame`: downscaled, linear, NaN without data; `mask` (1, height, width): 0 is left out already.
/// Returns the mask with the objects at 0, too. What stands out from `sky`, a frame of the same
/// shape, is looked for at scales from one pixel to an eighth of the frame and grown down to where
/// it is lost in the sky.
Image mask_objects(ConstView frame, ConstView mask, ConstView sky);

}  // namespace limpid::background
