// What a result lacks, or has too much, beside the record.
#pragma once

#include <array>
#include <vector>

#include <limpid/network.h>

#include "core/fft_columns.h"
#include "restore/noise_model.h"

namespace limpid {

/// Of the filter conj(H) / (|H|^2 + lambda): the first band is what the first lets through, the
/// second the difference between both.
inline constexpr std::array<float, 2> missing_light_lambdas{0.3F, 0.03F};

/// What takes a result to the record, per channel, and what of white noise each band shows of the
/// differences between them.
struct Passing {
  ColumnSpectrum transfer;
  std::vector<std::array<double, missing_light_lambdas.size()>> noise_power;
};
Passing passing(const TileControls& controls, int channels, Size size);

/// A tile whose hidden pixels are filled.
struct MissingLightInput {
  ConstView before, after;
  ConstView shown;       ///< the result as the measured PSF would show it
  ConstView difference;  ///< record less that, weighted
};

/// What is to be added to `place`, 6 px or more from the tile's rim: the difference sharpened, as
/// far as it stands out from noise and is no star's. docs/method.md, "Nebulae".
Image missing_light(const MissingLightInput& tile, Rect place, const Passing& pass,
                    const NoiseModel& noise);

}  // namespace limpid
