// How much of what a network changes in a nebula the record bears out.
#pragma once

#include <limpid/image.h>

#include "core/fft_columns.h"
#include "restore/noise_model.h"

namespace limpid {

/// One channel of a tile whose hidden pixels are filled.
struct BandGainInput {
  ConstView changes;  ///< result less record, (1, h, w)
  ConstView shown;    ///< (1, h, w): the light that the record shows, without its noise
  ConstView hidden;   ///< (1, h, w), not 0 where nothing is compared
  const ColumnSpectrum& recorded;  ///< of the record, all channels
  const ColumnSpectrum& changed;   ///< of `changes`, all channels
  const ColumnSpectrum& transfer;  ///< what takes a result to the record, all channels
  int channel = 0;
  NoiseVariance variance;
  float correlation = 1;  ///< of the noise: StarCatalogue::noise_correlation
};

/// What is to be added to the `inner` part of the result so that each band of frequencies changes
/// the record by as much as its light stands out from its noise: docs/method.md, "Nebulae". Bands
/// are those of equal transfer T. In each, and around each place, the gain of the network's change
/// D is that of Wiener's filter, (1 - N / |H|^2) (1 / T - 1) H, projected on D. `inner` begins on
/// even pixels, 28 px or more from the tile's rim.
Image band_gains(const BandGainInput& input, Rect inner);

}  // namespace limpid
