#include "restore/tile_passes.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>

#include <limpid/error.h>
#include <limpid/tiles.h>

#include "core/fft.h"
#include "core/parallel.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

constexpr int smallest_tile_px = 128;  // the last resort when memory is short

/// 1 where any channel is clipped.
Image clipped_cores(ConstView tile, const std::optional<float>& saturation) {
  Image mask(1, tile.size());
  if (!saturation) return mask;
  for (int c = 0; c < tile.channels(); ++c) {
    for (int y = 0; y < tile.height(); ++y) {
      const auto row = tile.row(c, y);
      const auto out = mask.view().row(0, y);
      for (std::size_t x = 0; x < row.size(); ++x) {
        if (row[x] >= clipped_share * *saturation) out[x] = 1;
      }
    }
  }
  return mask;
}

TileGrid grid_over(Size part, Size tile, float overlap, int step) {
  const auto shared = [overlap](int length) {
    return static_cast<int>(overlap * static_cast<float>(length));
  };
  // What lies within the network's reach of a tile's edge would be seen without its neighbours;
  // of a narrow overlap a third is blended all the same.
  const auto fade = [](int overlap_px) {
    return std::max(overlap_px / 3, overlap_px - 2 * Network::margin_px());
  };
  const Size shares{shared(tile.width), shared(tile.height)};
  return {part, tile, shares, step, {fade(shares.width), fade(shares.height)}};
}

/// Whole blocks of the network.
Rect rounded_out(Rect part, int step) {
  const int left = part.x / step * step, top = part.y / step * step;
  const auto up = [step](int end) { return (end + step - 1) / step * step; };
  return {left, top, up(part.x + part.width) - left, up(part.y + part.height) - top};
}

/// Along one axis a part of the frame may need little more than one tile, or two: the shortest that
/// are no more of them, but `fewest`, of lengths whose transforms are quick.
int shortest_fitting_tile(int length, int tile_px, int fewest, float overlap, int step) {
  const auto count = [&](int px) {
    return grid_over({length, length}, {px, px}, overlap, step).columns();
  };
  const int most = std::max(fewest, count(tile_px));
  int best = tile_px;
  for (int px = tile_px - step; px >= smallest_tile_px && count(px) <= most; px -= step) {
    const int side = px + 2 * Network::margin_px();
    if (good_fft_length(side) == side) best = px;
  }
  return best;
}

Size smallest_fitting_tile(Size part, int tile_px, float overlap, int step) {
  // four at least where it is large, for the cores
  const int fewest = std::min(part.width, part.height) > 2 * smallest_tile_px ? 2 : 1;
  return {shortest_fitting_tile(part.width, tile_px, fewest, overlap, step),
          shortest_fitting_tile(part.height, tile_px, fewest, overlap, step)};
}

/// One pass of the network over `wanted` of a frame without gaps. The network works on blocks of
/// pixels: every tile begins at a whole block of the frame, or the same pixel would come out
/// differently from one tile, and from a preview, to the next.
Image run_tiles(ConstView frame, Rect wanted, const Knowledge& known, const DeconvolveOptions& o,
                const Network& network, int tile_px, DeconvolveReport& report, PartMemory& memory,
                const Progress& progress) {
  const int step = Network::granularity_px();
  const int left = wanted.x / step * step, top = wanted.y / step * step;
  const Rect region{left, top, wanted.x + wanted.width - left, wanted.y + wanted.height - top};
  const int longest = std::max(region.width, region.height);
  tile_px = std::min(tile_px, (longest + step - 1) / step * step) / step * step;
  const bool whole = wanted == Rect{0, 0, frame.width(), frame.height()};
  const Size tile_size = whole ? Size{tile_px, tile_px}
                               : smallest_fitting_tile(region.size(), tile_px, o.overlap, step);
  const TileGrid grid = grid_over(region.size(), tile_size, o.overlap, step);
  const auto place = [&](int i) {
    const Rect tile = grid.tile(i);
    return Rect{tile.x + region.x, tile.y + region.y, tile.width, tile.height};
  };
  // rough previews come between exact ones, of a smaller part
  const bool remembers = !whole && !o.request_stars;
  if (remembers) {
    std::vector<Rect> tiles;
    tiles.reserve(static_cast<std::size_t>(grid.count()));
    for (int i = 0; i < grid.count(); ++i) tiles.push_back(place(i));
    memory.expect(std::move(tiles));
  }
  TileBlender blender(grid, frame.channels());
  // A tile has too many small steps to keep many cores busy: several tiles at a time, each on one.
  // So the bytes are the same for any number of threads, too: convolutions that are computed as
  // matrix products (processors without AVX2) are cut up by it.
  const int threads = thread_count(o.threads);
  const int workers = std::min(
      {threads, most_tiles_at_once, grid.count(), network.on_cpu() ? most_tiles_at_once : 1});
  std::mutex mutex;
  struct Answer {
    Image image;
    Rect part;
  };
  std::map<int, Answer> waiting;  // answers are added in order: sums do not depend on who was first
  int next = 0;
  double seconds_in_network = 0;
  parallel_for(grid.count(), workers, [&](int i) {
    progress.throw_if_stopped();
    const Rect tile = place(i);
    const double start = seconds();
    const Rect part = rounded_out(grid.needed(i), step);
    Image answer =
        restore_tile(tile_pixels(frame, tile, known), controls_of(tile, known, o, frame.channels()),
                     *known.normalisation, network, network.on_cpu() ? 1 : threads,
                     remembers ? memory.of(i) : nullptr, part);
    const double taken = seconds() - start;
    const std::scoped_lock lock(mutex);
    seconds_in_network += taken / workers;
    waiting.emplace(i, Answer{std::move(answer), part});
    for (auto first = waiting.begin(); first != waiting.end() && first->first == next;
         first = waiting.erase(first)) {
      blender.add(next++, first->second.image.view(), first->second.part);
    }
    progress(static_cast<double>(next) / grid.count(), "deconvolving");
  });
  report.network_seconds += seconds_in_network;
  report.tiles += grid.count();
  report.tile_px = std::max(tile_size.width, tile_size.height);
  Image all = std::move(blender).finish();
  return region == wanted ? std::move(all)
                          : copy(all.view().crop(
                                {wanted.x - left, wanted.y - top, wanted.width, wanted.height}));
}

}  // namespace

void PartMemory::expect(std::vector<Rect> tiles) {
  if (tiles != tiles_) {
    memories_.clear();
    tiles_ = std::move(tiles);
  } else if (memories_.empty()) {
    for (std::size_t i = 0; i < tiles_.size(); ++i) memories_.emplace_back(1);
  }
}

TilePixels tile_pixels(ConstView frame, Rect tile, const Knowledge& known) {
  const Image around = extract_mirrored(frame, grown(tile, Network::margin_px()));
  const Rect inner{Network::margin_px(), Network::margin_px(), tile.width, tile.height};
  return {known.normalisation->apply(around.view()),
          clipped_cores(around.view().crop(inner), known.catalogue.saturation)};
}

TileControls controls_of(Rect tile, const Knowledge& known, const DeconvolveOptions& o,
                         int channels) {
  return controls_at(known, o, channels,
                     static_cast<float>(tile.x) + static_cast<float>(tile.width) / 2,
                     static_cast<float>(tile.y) + static_cast<float>(tile.height) / 2);
}

Image restore_tile(const TilePixels& pixels, const TileControls& controls,
                   const Normalisation& normalisation, const Network& network, int threads,
                   TileMemory* memory, std::optional<Rect> wanted) {
  const Image answer =
      network.run(pixels.around.view(), pixels.clipped.view(), controls, threads, memory, wanted);
  return normalisation.undo(answer.view());
}

Image run_with_fallback(ConstView frame, Rect region, const Knowledge& known,
                        const DeconvolveOptions& o, const Network& network,
                        DeconvolveReport& report, PartMemory& memory, const Progress& progress,
                        const std::function<Network()>& fallback) {
  std::optional<Network> spare;
  for (int tile_px = o.tile_px;;) {
    try {
      return run_tiles(frame, region, known, o, spare ? *spare : network, tile_px, report, memory,
                       progress);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::exhausted) throw;
      if (tile_px / 2 >= smallest_tile_px) {
        tile_px /= 2;
        report.notes.push_back(std::string(error.what()) + "; going on with tiles of " +
                               std::to_string(tile_px) + " px");
      } else if (fallback && !spare) {
        spare = fallback();
        tile_px = o.tile_px;
        report.device = spare->device_text();
        report.notes.push_back(std::string(error.what()) + "; going on with " + report.device);
      } else {
        throw;
      }
      progress.say(report.notes.back());
    }
  }
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace limpid
