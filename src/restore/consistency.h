// Bringing stars into agreement with what was recorded of them.
#pragma once

#include <functional>

#include <limpid/network.h>

#include "restore/restored_part.h"

namespace limpid {

/// A star that is blurred back by the measured PSF G must look as it was recorded. Where the
/// network's does not, the difference is explained by derivatives of G (weighted least squares,
/// under a prior that each is of a fifth of the star's light), and the same derivatives of the
/// wanted PSF are added: place, width, ellipticity and coma become those of the record. In stars of
/// S/N 30 what is left of the difference is sharpened by G_out conj(G) / (|G|^2 + nu) to the wanted
/// PSF and added, too (Wiener 1949), nu being the power of the noise against that of an error of
/// 5 %. The light itself is settled elsewhere (balance_light). A correction that would make
/// darkness is scaled down. Clipped, faint (S/N under 10) and cut stars stay as they are, and those
/// with another nearer than 1.7 FWHM. `controls_at`: what was measured and is wanted at a place.
/// `after` has the size of the part. Returns how many stars were looked at.
int make_consistent(const RestoredPart& known,
                    const std::function<TileControls(float x, float y)>& controls_at,
                    MutableView after);

}  // namespace limpid
