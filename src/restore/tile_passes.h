// The network over the tiles of a frame.
#pragma once

#include <functional>

#include <limpid/deconvolve.h>
#include <limpid/image.h>
#include <limpid/network.h>
#include <limpid/progress.h>

#include "restore/knowledge.h"

namespace limpid {

inline constexpr int most_tiles_at_once = 8;  ///< each needs some 60 MB

/// What the network is given of one tile of a frame without gaps.
struct TilePixels {
  Image around;   ///< with the network's margins, normalised
  Image clipped;  ///< 1 at saturated cores
};

TilePixels tile_pixels(ConstView frame, Rect tile, const Knowledge& known);
/// What the network is told of a tile: what holds in its middle.
TileControls controls_of(Rect tile, const Knowledge& known, const DeconvolveOptions& o,
                         int channels);
Image restore_tile(const TilePixels& pixels, const TileControls& controls,
                   const Normalisation& normalisation, const Network& network, int threads,
                   TileMemory* memory = nullptr);

/// One pass of the network over `region` of a frame without gaps; with smaller tiles when memory
/// runs out, then on the other device. Throws Error(exhausted) when neither helps.
Image run_with_fallback(ConstView frame, Rect region, const Knowledge& known,
                        const DeconvolveOptions& o, const Network& network,
                        DeconvolveReport& report, const Progress& progress,
                        const std::function<Network()>& fallback);

/// Of a clock that never goes back.
double seconds();

}  // namespace limpid
