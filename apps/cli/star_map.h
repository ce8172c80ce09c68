// The picture of `limpid measure`.
#pragma once

#include <string>
#include <vector>

#include <limpid/stars.h>

namespace limpid::cli {

/// FWHM over the frame in colour, a whisker along the long axis of the stars in each cell (as long
/// as their ellipticity says), and the radial profile per channel. A whole SVG document.
std::string star_map_svg(const StarCatalogue& catalogue, const FrameReport& report,
                         const std::vector<std::vector<RadialPoint>>& profiles);

}  // namespace limpid::cli
