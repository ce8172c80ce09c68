// How much of what a network changes in a nebula the record bears out.
#pragma once

#include <limpid/image.h>

#include "core/fft_lines.h"
#include "restore/noise_model.h"

namespace limpid {

/// One channel of a tile whose hidden pixels are filled.
struct BandGainInput {
  ConstView changes;             ///< result less record, (1, h, w)
  ConstView shown;               ///< (1, h, w): the light that the record shows, without its noise
  ConstView hidden;              ///< (1, h, w), not 0 where nothing is compared
  const ComplexLines& recorded;  ///< columns of the record's spectrum
  const ComplexLines& made;      ///< of the result's
  const ComplexLines& transfer;  ///< of what takes a result to the record
  NoiseVariance variance;
  float correlation = 1;  ///< of the noise: StarCatalogue::noise_correlation
};

/// Adds `share` of what makes each band of frequencies change the record by as much as its light
/// stands out from its noise: docs/method.md, "Nebulae". Bands are those of equal transfer T. In
/// each, and around each place, the gain of the network's change D is that of Wiener's filter,
/// (1 - N / |H|^2) (1 / T - 1) H, projected on D. `share` and `to`: of the `inner` part of the
/// tile, which begins on even pixels, 28 px or more from its rim.
void add_band_gains(const BandGainInput& input, Rect inner, ConstView share, MutableView to);

}  // namespace limpid
