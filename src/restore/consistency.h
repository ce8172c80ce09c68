// Bringing stars into agreement with what was recorded of them.
#pragma once

#include <functional>

#include <limpid/network.h>

#include "restore/psf_errors.h"
#include "restore/restored_part.h"

namespace limpid {

/// A star that is blurred back by the measured PSF G must look as it was recorded. Where the
/// network's does not, the difference is explained by derivatives of G (weighted least squares,
/// under a prior that each is of a fifth of the star's light), and the same derivatives of the
/// wanted PSF are added: place, width, ellipticity and coma become those of the record, but for
/// what the measured PSF's own `errors` explain. What the record shows to be a point is drawn as
/// the wanted PSF shows it where it outshines what else is there; of what is none, in S/N 30, the
/// rest of the difference is sharpened by a Wiener filter and added. The light is that of the
/// record's core and settled elsewhere (balance_light). Clipped, faint (S/N under 10) and cut stars
/// stay as they are, and those with another nearer than 1.7 FWHM. `controls_at`: what was measured
/// and is wanted at a place. `after` has the size of the part. Returns how many stars were looked
/// at.
int make_consistent(const RestoredPart& known, const PsfErrors& errors,
                    const std::function<TileControls(float x, float y)>& controls_at,
                    MutableView after);

}  // namespace limpid
