// What a result lacks, or has too much, beside the record.
#pragma once

#include <limpid/network.h>

#include "core/fft_columns.h"
#include "restore/noise_model.h"

namespace limpid {

/// What takes a result to the record: a plane per channel, and one of no meaning.
ColumnSpectrum passing(const TileControls& controls, int channels, Size size);

/// A tile whose hidden pixels are filled.
struct MissingLightInput {
  ConstView before, after;
  ConstView shown;       ///< the result as the measured PSF would show it
  ConstView difference;  ///< record less that, weighted
};

/// What is to be added to `place`, 6 px or more from the tile's rim: the difference sharpened, as
/// far as it stands out from noise and is no star's. docs/method.md, "Nebulae".
Image missing_light(const MissingLightInput& tile, Rect place, const ColumnSpectrum& passing,
                    const NoiseModel& noise);

}  // namespace limpid
