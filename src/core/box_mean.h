// Running means.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <limpid/image.h>

namespace limpid {

/// Means over squares of 2 half + 1 px, cut at the rim, of a plane without NaN.
Image box_mean(ConstView plane, int half);

/// Adds up the rows of a square, and these sums across it: box_mean() of one row.
class BoxMeanRow {
 public:
  BoxMeanRow(int width, int half);
  /// `rows`: those that the square reaches, from the top, of which there are at least one.
  void mean_of(std::span<const float* const> rows, std::span<float> out);

 private:
  std::size_t half_;
  std::vector<float> sums_;    ///< of columns, with zeros on both sides
  std::vector<float> shares_;  ///< of a row's pixels, one over how many there are in reach
  std::vector<const float*> shifted_;
};

/// Makes the rows of a plane that is there already.
inline auto rows_of(ConstView plane) {
  return [plane](int y, std::span<float> row) { std::ranges::copy(plane.row(0, y), row.begin()); };
}

/// box_mean() row by row of a plane that is made row by row, so that neither is ever held as a
/// whole: `make(y, row)` sets one row, and is called in order for those that are needed.
template <typename Make>
class BoxMeanRows {
 public:
  BoxMeanRows(Size size, int half, Make make)
      : height_(size.height),
        half_(half),
        make_(std::move(make)),
        means_(size.width, half),
        ring_(static_cast<std::size_t>(2 * half + 1),
              std::vector<float>(static_cast<std::size_t>(size.width))),
        mean_(static_cast<std::size_t>(size.width)) {}

  /// Rows are asked for in order; some may be left out. What is returned holds until the next is.
  std::span<float> row(int y) {
    const int top = std::max(0, y - half_), bottom = std::min(height_, y + half_ + 1);
    for (made_ = std::max(made_, top); made_ < bottom; ++made_)
      make_(made_, std::span(line(made_)));
    rows_.clear();
    for (int i = top; i < bottom; ++i) rows_.push_back(line(i).data());
    means_.mean_of(rows_, mean_);
    return mean_;
  }
  /// What was made of row y, the one that was asked for last.
  [[nodiscard]] std::span<const float> made(int y) { return line(y); }

 private:
  std::vector<float>& line(int y) { return ring_[static_cast<std::size_t>(y) % ring_.size()]; }

  int height_, half_, made_ = 0;
  Make make_;
  BoxMeanRow means_;
  std::vector<std::vector<float>> ring_;
  std::vector<const float*> rows_;
  std::vector<float> mean_;
};

}  // namespace limpid
