#include <limpid/tiles.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>

namespace limpid {
namespace {

int tiles_along(int length, int tile_px, int overlap_px) {
  if (length <= tile_px) return 1;
  const int step = tile_px - overlap_px;
  return (length - overlap_px + step - 1) / step;
}

/// Where tile `index` of `count` begins: spread evenly from edge to edge, or around the middle of
/// a frame that is smaller than one tile.
int tile_start(int index, int count, int length, int tile_px, int align_px) {
  if (count == 1) return -((tile_px - length) / 2 / align_px * align_px);
  const long long room = (length - tile_px + align_px - 1) / align_px;
  return align_px * static_cast<int>((room * index + (count - 1) / 2) / (count - 1));
}

/// Raised cosine from 0 to 1 in the overlap of the tiles that begin at `left` and `right`. No wider
/// than the step between them, so that the next overlap begins where this fade has ended, and a
/// pixel is never shared by three tiles.
double fade_in(int x, int left, int right, int tile_px, int fade_px) {
  const int step = right - left;
  const int width = std::min({tile_px - step, step, fade_px});
  const double middle = 0.5 * (right + left + tile_px);  // of the half-open overlap
  if (width == 0) return x + 0.5 > middle ? 1.0 : 0.0;
  const double t = std::clamp((x + 0.5 - middle) / width + 0.5, 0.0, 1.0);
  return 0.5 - 0.5 * std::cos(std::numbers::pi * t);
}

/// The window of one tile along one axis, for each of its pixels. The fades of two neighbours are
/// w and 1 - w of the same w, so that the windows of all tiles sum to one everywhere.
std::vector<float> window(int index, int count, int length, int tile_px, int align_px,
                          int fade_px) {
  const auto start = [&](int i) { return tile_start(i, count, length, tile_px, align_px); };
  std::vector<float> weights(static_cast<std::size_t>(tile_px), 1.0F);
  for (int i = 0; i < tile_px; ++i) {
    const int x = start(index) + i;
    float& weight = weights[static_cast<std::size_t>(i)];
    if (index > 0) {
      weight *= static_cast<float>(fade_in(x, start(index - 1), start(index), tile_px, fade_px));
    }
    if (index + 1 < count) {
      weight *=
          1.0F - static_cast<float>(fade_in(x, start(index), start(index + 1), tile_px, fade_px));
    }
  }
  return weights;
}

std::vector<float> window_across(const TileGrid& grid, int index) {
  return window(index % grid.columns(), grid.columns(), grid.frame().width, grid.tile_size().width,
                grid.align_px(), grid.fade().width);
}
std::vector<float> window_down(const TileGrid& grid, int index) {
  return window(index / grid.columns(), grid.rows(), grid.frame().height, grid.tile_size().height,
                grid.align_px(), grid.fade().height);
}

/// The pixels of a tile in which a window is not zero, of those from `begin` on.
struct Span {
  int begin, length;
};
Span positive_part(const std::vector<float>& weights, int begin, int length) {
  const auto positive = [](float weight) { return weight > 0; };
  const auto from = weights.begin() + begin, to = from + length;
  const auto first = std::find_if(from, to, positive), last = std::find_if_not(first, to, positive);
  return {static_cast<int>(first - weights.begin()), static_cast<int>(last - first)};
}

}  // namespace

TileGrid::TileGrid(Size frame, Size tile, Size overlap, int align_px, Size fade)
    : frame_(frame),
      tile_(tile),
      fade_(fade),
      align_px_(align_px),
      columns_(tiles_along(frame.width, tile.width, overlap.width)),
      rows_(tiles_along(frame.height, tile.height, overlap.height)) {
  assert(frame.width > 0 && frame.height > 0);
  assert(overlap.width >= 0 && overlap.width <= tile.width / 2);
  assert(overlap.height >= 0 && overlap.height <= tile.height / 2);
  assert(align_px >= 1 && tile.width % align_px == 0 && tile.height % align_px == 0);
}

Rect TileGrid::tile(int index) const {
  assert(index >= 0 && index < count());
  return {tile_start(index % columns_, columns_, frame_.width, tile_.width, align_px_),
          tile_start(index / columns_, rows_, frame_.height, tile_.height, align_px_), tile_.width,
          tile_.height};
}

Rect TileGrid::needed(int index) const {
  const Rect rect = tile(index), inside = intersect(rect, {0, 0, frame_.width, frame_.height});
  const Span x = positive_part(window_across(*this, index), inside.x - rect.x, inside.width),
             y = positive_part(window_down(*this, index), inside.y - rect.y, inside.height);
  return {x.begin, y.begin, x.length, y.length};
}

Image TileGrid::extract(ConstView frame, int index) const {
  assert(frame.size() == frame_);
  return extract_mirrored(frame, tile(index));
}

TileBlender::TileBlender(const TileGrid& grid, int channels)
    : grid_(grid),
      sum_(channels, grid.frame()) {}

void TileBlender::add(int index, ConstView tile, Rect part) {
  assert(tile.channels() == sum_.channels() && tile.size() == part.size());
  const Rect rect = grid_.tile(index), needed = grid_.needed(index);
  assert(intersect(needed, part) == needed);
  const auto across = window_across(grid_, index), down = window_down(grid_, index);
  // Where the window is zero nothing may be added, not even zero times NaN.
  const auto count = static_cast<std::size_t>(needed.width);
  const float* weight = across.data() + needed.x;
  for (int channel = 0; channel < tile.channels(); ++channel) {
    for (int y = needed.y; y < needed.y + needed.height; ++y) {
      const float row_weight = down[static_cast<std::size_t>(y)];
      const float* from = tile.row(channel, y - part.y).data() + needed.x - part.x;
      float* to = sum_.view().row(channel, rect.y + y).data() + rect.x + needed.x;
      for (std::size_t x = 0; x < count; ++x) to[x] += row_weight * weight[x] * from[x];
    }
  }
  ++added_;
}

Image TileBlender::finish() && {
  assert(added_ == grid_.count());
  return std::move(sum_);
}

}  // namespace limpid
