// A frame as equal tiles that overlap, and back without a seam.
#pragma once

#include <vector>

#include <limpid/image.h>

namespace limpid {

/// Equal tiles that overlap and cover a frame. A frame smaller than a tile has one tile, which
/// reaches outside and is filled by mirroring.
class TileGrid {
 public:
  /// `overlap_px` is shared by two neighbours; 0 <= overlap_px <= tile_px / 2. Tiles begin at
  /// multiples of `align_px`, of which tile_px must be one: the last may then reach outside, and
  /// the true overlap be less by that.
  TileGrid(Size frame, int tile_px, int overlap_px, int align_px = 1)
      : TileGrid(frame, {tile_px, tile_px}, {overlap_px, overlap_px}, align_px) {}
  /// The same along each axis. Neighbours are led into each other over `fade` in the middle of what
  /// they share, or over all of that where it is less: what is outside is context alone.
  TileGrid(Size frame, Size tile, Size overlap, int align_px = 1,
           Size fade = {largest_fade_px, largest_fade_px});
  static constexpr int largest_fade_px = 1 << 20;
  [[nodiscard]] int count() const { return columns_ * rows_; }
  [[nodiscard]] int columns() const { return columns_; }
  [[nodiscard]] int rows() const { return rows_; }
  [[nodiscard]] Size tile_size() const { return tile_; }
  [[nodiscard]] int align_px() const { return align_px_; }
  [[nodiscard]] Size frame() const { return frame_; }
  [[nodiscard]] Size fade() const { return fade_; }
  /// Row by row from the top left. The tiles are spread evenly, so the true overlap may be larger.
  [[nodiscard]] Rect tile(int index) const;
  /// The part of a tile that TileBlender needs, in the tile: all but what is context, and what
  /// reaches outside the frame.
  [[nodiscard]] Rect needed(int index) const;
  [[nodiscard]] Image extract(ConstView frame, int index) const;

 private:
  Size frame_, tile_, fade_;
  int align_px_, columns_, rows_;
};

/// Adds tiles up under a raised-cosine window whose weights sum to one everywhere. Holds the frame
/// and nothing more. Call add() in the order of the grid: the sums are rounded.
class TileBlender {
 public:
  TileBlender(const TileGrid& grid, int channels);
  /// `tile`: what lies in `part` of it, or all of it; needed() of it at least.
  void add(int index, ConstView tile, Rect part);
  void add(int index, ConstView tile) { add(index, tile, {0, 0, tile.width(), tile.height()}); }
  /// The frame. Every tile must have been added.
  Image finish() &&;

 private:
  TileGrid grid_;
  Image sum_;
  int added_ = 0;
};

}  // namespace limpid
