// Frames that tell little of their PSF's wings take them from those that tell more.
#pragma once

#include <vector>

#include <limpid/stars.h>

#include "multiframe/measure_frame.h"

namespace limpid::multiframe {

/// How well the stars tell log beta: the inverse of its variance, with what a nebula does to the
/// fits (their chi2) in it.
float wing_weight(const StarCatalogue& catalogue);

/// Sets each member's beta_factor and fwhm_factor. Frames with a fault, or with a PSF that was
/// given with them, take no part.
void match_wings(std::vector<Measured>& measured);

}  // namespace limpid::multiframe
