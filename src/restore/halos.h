// Halos of bright stars stay as they were recorded.
#pragma once

#include "restore/restored_part.h"

namespace limpid {

/// A measured PSF ends at a few FWHM; the halo of a bright star goes on. Inside that end it would
/// be sharpened, outside not: a disc with a dark rim. So from 2 to 3.5 FWHM around a star of 300
/// times the noise (from its clipped core on, if it has one) the result passes over into what was
/// recorded, as far as the halo stands out: by h^2 / (h^2 + (3 s)^2), h the median of a ring over
/// the level further out and s its scatter, so that nebulae and sky beside it keep their sharpness,
/// as stars in it do; nearer in nothing may be darker than the halo is where it begins. Beside
/// stars of 50 times the noise, out to 6 FWHM, local means that fell under the level around them
/// are raised to it. `after` has the size of the part. Returns how many halos stand out.
int keep_halos(const RestoredPart& known, MutableView after);

}  // namespace limpid
