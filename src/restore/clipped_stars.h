// Stars whose cores are clipped shrink by what both PSFs say of their unclipped light.
#pragma once

#include <functional>
#include <vector>

#include <limpid/network.h>

#include "restore/restored_part.h"

namespace limpid {

/// Around a clipped core the light over the sky, B, is that of one star F, so there the result is
/// B + (recorded - B) W/G, with G the measured and W the wanted PSF: no rings, no holes, the
/// record's own asymmetries scaled. F and the star's place follow from the pixels round the core
/// (log-linear least squares), and inside it the star is B + F W, no brighter than the clipping
/// times the gain of a star's peak. The network's result stays where the star stands out of its
/// surroundings by less than three times their scatter, beyond 2.5 FWHM from the core, and at
/// neighbours. `controls_at`: what was measured and is wanted at a place. `after` has the size of
/// the part. Returns where the stars are: a square about the core of each.
std::vector<Rect> shrink_clipped_stars(
    const RestoredPart& known, const std::function<TileControls(float x, float y)>& controls_at,
    MutableView after);

}  // namespace limpid
