// The guide planes on the CPU.
#pragma once

#include "nn/guides.h"

namespace limpid {

/// `part` of what guide_planes(tile, controls, threads) gives: a tile's margins need not be made.
Image guide_planes_in(ConstView tile, Rect part, const TileControls& controls, int threads);

}  // namespace limpid
