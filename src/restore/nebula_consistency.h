// Nebulae in agreement with the record.
#pragma once

#include <functional>

#include <limpid/network.h>

#include "restore/noise_model.h"
#include "restore/restored_part.h"

namespace limpid {

/// Blurs the result back to the measured PSF and, where that differs from the record by more than
/// noise, gives what is missing to the result, sharpened as far as the PSF passes it on: docs/
/// method.md, "Nebulae". Stars, clipped pixels and what lies under them stay. `after`: the part's
/// result, changed in place. Returns the share of the part's pixels that were changed by over half
/// the noise of the sky.
double make_nebulae_consistent(const RestoredPart& restored, const NoiseModel& noise,
                               const std::function<TileControls(float x, float y)>& controls_at,
                               MutableView after);

}  // namespace limpid
