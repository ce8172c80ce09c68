// The network over the tiles of a frame.
#pragma once

#include <functional>
#include <optional>
#include <vector>

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

/// Of the tiles of a part that is restored again and again, as previews are.
class PartMemory {
 public:
  /// Of tile `index` of these; of others nothing stays. Not where the part is seen for the first
  /// time: most are never seen again, and the memory is 84 bytes a pixel.
  void expect(std::vector<Rect> tiles);
  [[nodiscard]] TileMemory* of(int index) {
    return memories_.empty() ? nullptr : &memories_[static_cast<std::size_t>(index)];
  }

 private:
  std::vector<Rect> tiles_;
  std::vector<TileMemory> memories_;
};

TilePixels tile_pixels(ConstView frame, Rect tile, const Knowledge& known);
/// What the network is told of a tile: what holds in its middle.
TileControls controls_of(Rect tile, const Knowledge& known, const DeconvolveOptions& o,
                         int channels);
/// The tile, or the part of it that is `wanted`, see Network::run().
Image restore_tile(const TilePixels& pixels, const TileControls& controls,
                   const Normalisation& normalisation, const Network& network, int threads,
                   TileMemory* memory = nullptr, std::optional<Rect> wanted = {});

/// One pass of the network over `region` of a frame without gaps; with smaller tiles when memory
/// runs out, then on the other device. `memory`: of this frame. Throws Error(exhausted) when
/// neither helps.
Image run_with_fallback(ConstView frame, Rect region, const Knowledge& known,
                        const DeconvolveOptions& o, const Network& network,
                        DeconvolveReport& report, PartMemory& memory, const Progress& progress,
                        const std::function<Network()>& fallback);

/// Of a clock that never goes back.
double seconds();

}  // namespace limpid
