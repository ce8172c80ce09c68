// The middles of stars have no dents.
#pragma once

#include "restore/restored_part.h"

namespace limpid {

/// Where the record has no dent, sharper light has none. In a star's core (within 0.8 FWHM of the
/// place of one that stands out by 30 times the noise, and wherever a clipped star is clipped) a
/// pixel that is darker than what encloses it on seven of eight sides is raised to the sides'
/// median: of each its brightest pixel within 1.5 FWHM, as far as the record shows as much light
/// as here, within 5 %, or less, down to half of it, and less what the record shows more of it
/// there. Large clipped cores are raised to the faintest side, too, however far it lies. A film
/// clips softly, so the network may not know a flat top for one and make a ring of it. The saddle
/// between two stars stays, since across it both sides fall. Channel by channel; `after` has the
/// size of the part.
void fill_cores(const RestoredPart& known, MutableView after);

}  // namespace limpid
