// What is clipped over large areas stays as it was recorded.
#pragma once

#include <vector>

#include "restore/restored_part.h"

namespace limpid {

/// Burnt-out cores of galaxies and nebulae, bleeding columns, planets: where squares of three FWHM
/// are clipped for four fifths in some channel, the record says nothing of what lies under the
/// clipping, and networks make blocks of its border. There, and softly up to 5 FWHM around, the
/// record stays; not in the squares `spared` (stars that were understood, a place of the frame
/// each). `after` has the size of the part. Returns the share of the part that is kept.
double keep_clipped_areas(const RestoredPart& known, const std::vector<Rect>& spared,
                          MutableView after);

}  // namespace limpid
