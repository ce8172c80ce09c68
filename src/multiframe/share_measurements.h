// Tells all hosts what each has measured.
#pragma once

#include <vector>

#include "multiframe/measure_frame.h"

namespace limpid::multiframe {

/// Before: every host has what it measured of its own frames. After: all have all, but for PSF
/// fields and noise maps, which only the owner of a frame needs. With one host nothing is done.
void share_measurements(std::vector<Measured>& measured, Size size, const Hosts& hosts);

}  // namespace limpid::multiframe
