// How the sky of each frame differs from the set's: moonlight and light domes move in a night.
#pragma once

#include <vector>

#include <limpid/image.h>

#include "multiframe/survey.h"

namespace limpid::multiframe {

/// Sky in a coarse grid of cells, row by row; NaN where too little is seen.
std::vector<float> sky_cells(ConstView channel, const Coverage& coverage);

/// Gives every member the surface by which its sky differs from the mean of all: what all frames
/// show, a nebula or a gradient that stays, drops out. The surface is flat, a plane or of second
/// order, whichever the cells call for.
void match_skies(std::vector<Member>& members);

}  // namespace limpid::multiframe
