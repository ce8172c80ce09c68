// Running means.
#pragma once

#include <limpid/image.h>

namespace limpid {

/// Means over squares of 2 half + 1 px, cut at the rim, of a plane without NaN.
Image box_mean(ConstView plane, int half);

}  // namespace limpid
