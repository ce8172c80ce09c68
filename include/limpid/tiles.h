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
  /// The same along each axis.
  TileGrid(Size frame, Size tile, Size overlap, int align_px = 1);
  [[nodiscard]] int count() const { return columns_ * rows_; }
  [[nodiscard]] int columns() const { return columns_; }
  [[nodiscard]] int rows() const { return rows_; }
  [[nodiscard]] Size tile_size() const { return tile_; }
  [[nodiscard]] int align_px() const { return align_px_; }
  [[nodiscard]] Size frame() const { return frame_; }
  /// Row by row from the top left. The tiles are spread evenly, so the true overlap may be larger.
  [[nodiscard]] Rect tile(int index) const;
  [[nodiscard]] Image extract(ConstView frame, int index) const;

 private:
  Size frame_, tile_;
  int align_px_, columns_, rows_;
};

/// Adds tiles up under a raised-cosine window whose weights sum to one everywhere. Holds the frame
/// and nothing more. Call add() in the order of the grid: the sums are rounded.
class TileBlender {
 public:
  TileBlender(const TileGrid& grid, int channels);
  void add(int index, ConstView tile);
  /// The frame. Every tile must have been added.
  Image finish() &&;

 private:
  TileGrid grid_;
  Image sum_;
  int added_ = 0;
};

}  // namespace limpid
