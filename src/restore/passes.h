// One pass over a frame and what is mended after it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "restore/star_width.h"
#include "restore/tile_passes.h"

namespace limpid {

/// What the windows in which sharpening is tried are made of; the same for all options. `memories`:
/// of each window.
struct Trials {
  Trials(ConstView frame, const Knowledge& known, int threads, const Progress& progress)
      : stars(frame, known.catalogue, threads, progress) {
    for (const Rect& window : stars.windows()) {
      pixels.push_back(tile_pixels(frame, window, known));
      memories.emplace_back(most_remembered);
    }
  }

  StarTrials stars;
  std::vector<TilePixels> pixels;
  std::vector<TileMemory> memories;

 private:
  /// Two or three requests are tried in turn as the controls move.
  static constexpr std::size_t most_remembered = 3;
};

/// The sharpening that gives stars the width asked for. Where memory is short it is not looked for.
/// `trials` are made when there are none; `gains` are those of these options but for S.
float request_for(ConstView frame, const Knowledge& known, const DeconvolveOptions& o,
                  const Network& network, std::unique_ptr<Trials>& trials, Gains& gains,
                  const Progress& progress);

/// One pass: bin when stars are very wide, tile. Returns the region. `request` tells the sharpening
/// that gives stars the width asked for; `memory` is of this frame.
Image pass(ConstView frame, Rect region, const DeconvolveOptions& o, const Network& network,
           DeconvolveReport& report, const Knowledge& known,
           const std::function<float(const Progress&)>& request, PartMemory& memory,
           const Progress& progress, const std::function<Network()>& fallback);

/// The passes that the options ask for, each fed with the result of the one before.
std::vector<DeconvolveOptions> passes(const DeconvolveOptions& o);

/// The last pass over `region`, and what is mended after it: stars that differ from the record,
/// halos, stars that the network did not understand, dark rings, light that was lost. What
/// `restore` makes reaches further, so that stars near the region's border come out as in the whole
/// frame.
Image mended(ConstView frame, Rect region, Knowledge& known, const DeconvolveOptions& o,
             DeconvolveReport& report, const Progress& progress,
             const std::function<Image(Rect)>& restore);

}  // namespace limpid
