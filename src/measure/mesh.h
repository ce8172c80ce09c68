// Statistics of a channel on a mesh of cells: the smooth level of its sky, the noise on it.
#pragma once

#include <span>
#include <vector>

#include "measure/coverage.h"

namespace limpid {

/// One of the cells that a frame is divided into: they cover it, and differ by a pixel at most.
Rect cell_rect(Size frame, Size cells, int column, int row);

/// Of the samples of one cell, which it may put into another order.
using CellStatistic = float (*)(std::span<float> samples);
/// Mode of the samples without what is clipped away: the sky under stars.
float sky_level(std::span<float> samples);

/// A statistic on a mesh of cells, smoothed, and interpolated between their centres.
class Mesh {
 public:
  Mesh(ConstView channel, const Coverage& coverage, int cell_px, CellStatistic statistic,
       int threads);
  /// NaN everywhere when the channel has no data.
  [[nodiscard]] float at(float x, float y) const;
  /// The values along one row of the channel.
  void fill_row(int y, std::span<float> row) const;

 private:
  void fill_empty_cells();
  void smooth(int threads);

  Size cells_, frame_;
  std::vector<float> values_;
  std::vector<int>
      stretch_ends_;  ///< behind the last pixel of a row that has this cell on its left
};

}  // namespace limpid
