#include "restore/clipped_areas.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "core/parallel.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

constexpr float half_square_fwhm = 1.5F, kept_fwhm = 1, end_fwhm = 5;
constexpr float clipped_part = 0.8F;  // of a square: noise is added after clipping, too

/// Distances along rows and columns, whichever is longer, to the middle of the nearest clipped
/// square, up to `most`; rows of `box`. Nothing where there is none.
std::vector<int> distances(const RestoredPart& known, Rect box, int half, int most,
                           const std::vector<Rect>& spared) {
  const float level = clipped_share * *known.catalogue.saturation;
  const auto width = static_cast<std::size_t>(box.width),
             height = static_cast<std::size_t>(box.height);
  const auto at = [width](std::size_t x, std::size_t y) { return y * width + x; };
  std::vector<int> reached(width * height, 0);
  int count = 0;
  for (std::size_t y = 0; y < height; ++y) {
    const auto flags = std::span(reached).subspan(y * width, width);
    flag_reaching(known.before.crop(box), level, static_cast<int>(y), flags);
    count = std::accumulate(flags.begin(), flags.end(), count);
  }
  const auto side = static_cast<std::size_t>(2 * half + 1), middle = static_cast<std::size_t>(half);
  const int fewest = static_cast<int>(clipped_part * static_cast<float>(side * side));
  if (count == 0 || count < fewest) return {};
  // clipped pixels above and to the left of each
  std::vector<int> sum((width + 1) * (height + 1), 0);
  const auto sum_at = [&](std::size_t x, std::size_t y) -> int& {
    return sum[y * (width + 1) + x];
  };
  for (std::size_t y = 0; y < height; ++y) {
    int row = 0;
    for (std::size_t x = 0; x < width; ++x) {
      row += reached[at(x, y)];
      sum_at(x + 1, y + 1) = sum_at(x + 1, y) + row;
    }
  }
  std::vector<int> distance(width * height, most);
  bool any = false;
  for (std::size_t y = 0; y + side <= height; ++y) {
    for (std::size_t x = 0; x + side <= width; ++x) {
      const int clipped =
          sum_at(x + side, y + side) - sum_at(x, y + side) - sum_at(x + side, y) + sum_at(x, y);
      if (clipped < fewest) continue;
      const Rect place{box.x + static_cast<int>(x) + half, box.y + static_cast<int>(y) + half, 1,
                       1};
      if (std::ranges::any_of(
              spared, [&](Rect square) { return intersect(square, place).size().pixels() > 0; }))
        continue;
      distance[at(x + middle, y + middle)] = 0;
      any = true;
    }
  }
  if (!any) return {};
  const auto from = [&](std::size_t to, std::size_t other) {
    distance[to] = std::min(distance[to], distance[other] + 1);
  };
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      if (x > 0) from(at(x, y), at(x - 1, y));
      if (y == 0) continue;
      from(at(x, y), at(x, y - 1));
      if (x > 0) from(at(x, y), at(x - 1, y - 1));
      if (x + 1 < width) from(at(x, y), at(x + 1, y - 1));
    }
  }
  for (std::size_t y = height; y-- > 0;) {
    for (std::size_t x = width; x-- > 0;) {
      if (x + 1 < width) from(at(x, y), at(x + 1, y));
      if (y + 1 == height) continue;
      from(at(x, y), at(x, y + 1));
      if (x + 1 < width) from(at(x, y), at(x + 1, y + 1));
      if (x > 0) from(at(x, y), at(x - 1, y + 1));
    }
  }
  return distance;
}

}  // namespace

double keep_clipped_areas(const RestoredPart& known, const std::vector<Rect>& spared,
                          MutableView after) {
  if (!known.catalogue.saturation) return 0;
  const int half = static_cast<int>(std::ceil(half_square_fwhm * known.fwhm_px)),
            most = half + static_cast<int>(std::ceil(end_fwhm * known.fwhm_px)) + 1;
  const Rect frame{0, 0, known.before.width(), known.before.height()}, part = known.part;
  constexpr int tile_px = 512;
  const int columns = (part.width + tile_px - 1) / tile_px,
            rows = (part.height + tile_px - 1) / tile_px;
  std::vector<double> kept(static_cast<std::size_t>(columns * rows), 0.0);
  parallel_for(columns * rows, known.threads, [&](int i) {
    const Rect tile = intersect(
        {part.x + i % columns * tile_px, part.y + i / columns * tile_px, tile_px, tile_px}, part);
    const Rect box = intersect(grown(tile, most + half + 1), frame);
    const std::vector<int> distance = distances(known, box, half, most, spared);
    for (int y = tile.y; !distance.empty() && y < tile.y + tile.height; ++y) {
      for (int x = tile.x; x < tile.x + tile.width; ++x) {
        const int away =
            distance[static_cast<std::size_t>(y - box.y) * static_cast<std::size_t>(box.width) +
                     static_cast<std::size_t>(x - box.x)];
        if (away >= most) continue;
        const float share = falling(static_cast<float>(away - half), kept_fwhm * known.fwhm_px,
                                    end_fwhm * known.fwhm_px);
        kept[static_cast<std::size_t>(i)] += static_cast<double>(share);
        for (int c = 0; c < after.channels(); ++c) {
          float& value = after(c, y - part.y, x - part.x);
          value += share * (known.before(c, y, x) - value);
        }
      }
    }
  });
  return std::accumulate(kept.begin(), kept.end(), 0.0) / static_cast<double>(part.size().pixels());
}

}  // namespace limpid
