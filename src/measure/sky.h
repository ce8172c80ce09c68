// Where a channel has data, the smooth level of its sky, and the noise on it.
#pragma once

#include <span>
#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// Tells the picture from a border of NaN, zeros (what registration leaves) or ones (white, which
/// some programs leave): a run of at least four such pixels that begins at a frame's edge, but not
/// a few white ones, which are a clipped star that the edge cuts. Where such values are common
/// inside, too, as in 8-bit frames with a black sky, they are no border.
class Coverage {
 public:
  explicit Coverage(ConstView channel);
  /// From its edges(); `size` is the frame's.
  Coverage(Size size, std::span<const int> edges);
  /// First and end column of all rows, then first and end row of all columns.
  [[nodiscard]] std::vector<int> edges() const;
  /// Inside the border; a NaN further in is the caller's to see.
  [[nodiscard]] bool covers(int x, int y) const {
    const auto column = static_cast<std::size_t>(x), line = static_cast<std::size_t>(y);
    return x >= left_[line] && x < right_[line] && y >= top_[column] && y < bottom_[column];
  }

 private:
  void find_border(ConstView channel, float value);

  std::vector<int> left_, right_, top_, bottom_;
};

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
  void smooth();

  Size cells_, frame_;
  std::vector<float> values_;
  std::vector<int>
      stretch_ends_;  ///< behind the last pixel of a row that has this cell on its left
};

/// Level and noise of the quiet parts of one channel; see measure_sky.
SkyLevel measure_sky_channel(ConstView channel, const Coverage& coverage);

}  // namespace limpid
