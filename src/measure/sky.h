// Level and noise of the sky.
#pragma once

#include <limpid/image.h>
#include <limpid/stars.h>

#include "measure/coverage.h"

namespace limpid {

/// Level and noise of the quiet parts of one channel; see measure_sky.
SkyLevel measure_sky_channel(ConstView channel, const Coverage& coverage, int threads);

}  // namespace limpid
