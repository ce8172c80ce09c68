// Where cores of stars are clipped.
#pragma once

#include <vector>

#include "measure/star_template.h"

namespace limpid {

/// Level of each channel at which cores are clipped, infinity when none are. Clipped cores are
/// flat over several pixels and end steeply; after stacking their levels differ by some per cent.
std::vector<float> find_saturation(ConstView frame, const std::vector<Peak>& peaks,
                                   const SkyModel& sky, const StarTemplate& shape);

}  // namespace limpid
