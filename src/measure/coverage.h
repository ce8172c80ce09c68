// Where a channel has data.
#pragma once

#include <span>
#include <vector>

#include <limpid/image.h>

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
  /// Sets what lies outside the border to 0 in row `y`.
  void blank_outside(int y, std::span<float> row) const;

 private:
  [[nodiscard]] bool operator==(const Coverage&) const = default;
  void find_border(ConstView channel, float value);

  void find_whole_rows();

  std::vector<int> left_, right_, top_, bottom_;
  int first_whole_ = 0, end_whole_ = 0;  ///< rows that all columns reach
};

}  // namespace limpid
