#include "measure/coverage.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace limpid {
namespace {

constexpr int shortest_border_px = 4;

/// Length of the run of NaN and `value` at the beginning of `count` pixels, `step` apart.
int border_run(const float* first, std::ptrdiff_t step, int count, float value) {
  int run = 0, equal = 0;
  for (; run < count; ++run) {
    const float pixel = first[run * step];
    if (pixel == value)
      ++equal;
    else if (!std::isnan(pixel))
      break;
  }
  return equal == 0 || run >= shortest_border_px ? run : 0;
}

}  // namespace

Coverage::Coverage(ConstView channel)
    : left_(static_cast<std::size_t>(channel.height()), 0),
      right_(left_.size(), channel.width()),
      top_(static_cast<std::size_t>(channel.width()), 0),
      bottom_(top_.size(), channel.height()) {
  for (const float value : {0.0F, 1.0F}) find_border(channel, value);
  find_whole_rows();
}

Coverage::Coverage(Size size, std::span<const int> edges) {
  const auto width = static_cast<std::size_t>(size.width),
             height = static_cast<std::size_t>(size.height);
  const auto take = [&](std::vector<int>& to, std::size_t count) {
    to.assign(edges.begin(), edges.begin() + static_cast<std::ptrdiff_t>(count));
    edges = edges.subspan(count);
  };
  take(left_, height);
  take(right_, height);
  take(top_, width);
  take(bottom_, width);
  find_whole_rows();
}

std::vector<int> Coverage::edges() const {
  std::vector<int> all = left_;
  for (const auto* part : {&right_, &top_, &bottom_})
    all.insert(all.end(), part->begin(), part->end());
  return all;
}

void Coverage::blank_outside(int y, std::span<float> row) const {
  const auto line = static_cast<std::size_t>(y);
  const auto blank = [&](int first, int end) {
    for (int x = first; x < end; ++x) row[static_cast<std::size_t>(x)] = 0;
  };
  blank(0, left_[line]);
  blank(std::max(0, right_[line]), static_cast<int>(row.size()));
  if (y >= first_whole_ && y < end_whole_) return;
  for (std::size_t x = 0; x < row.size(); ++x)
    row[x] = y >= top_[x] && y < bottom_[x] ? row[x] : 0.0F;
}

void Coverage::find_whole_rows() {
  first_whole_ = top_.empty() ? 0 : std::ranges::max(top_);
  end_whole_ = bottom_.empty() ? 0 : std::ranges::min(bottom_);
}

void Coverage::find_border(ConstView channel, float value) {
  const int width = channel.width(), height = channel.height();
  const std::ptrdiff_t stride = channel.row_stride();
  const Coverage before = *this;
  for (int y = 0; y < height; ++y) {
    const float* row = channel.row(0, y).data();
    const auto line = static_cast<std::size_t>(y);
    left_[line] = std::max(left_[line], border_run(row, 1, width, value));
    right_[line] = std::min(right_[line], width - border_run(row + width - 1, -1, width, value));
  }
  for (int x = 0; x < width; ++x) {
    const float* first = channel.row(0, 0).data() + x;
    const auto column = static_cast<std::size_t>(x);
    top_[column] = std::max(top_[column], border_run(first, stride, height, value));
    bottom_[column] = std::min(bottom_[column], height - border_run(first + (height - 1) * stride,
                                                                    -stride, height, value));
  }
  // Short white runs from less than a tenth of a side are a clipped star that the side cuts.
  if (value == 1.0F) {
    struct Side {
      std::vector<int> Coverage::*runs;
      int across;
    };
    for (const Side& side : {Side{&Coverage::left_, width}, Side{&Coverage::right_, width},
                             Side{&Coverage::top_, height}, Side{&Coverage::bottom_, height}}) {
      std::vector<int>& found = this->*side.runs;
      const std::vector<int>& known = before.*side.runs;
      const auto is_short = [&](std::size_t i) {
        return found[i] != known[i] && 4 * std::abs(found[i] - known[i]) < side.across;
      };
      std::size_t lines = 0;
      for (std::size_t i = 0; i < found.size(); ++i) lines += is_short(i) ? 1 : 0;
      if (10 * lines >= found.size()) continue;
      for (std::size_t i = 0; i < found.size(); ++i) {
        if (is_short(i)) found[i] = known[i];
      }
    }
  }
  if (*this == before) return;
  int inside = 0, equal = 0;
  for (int y = 0; y < height; y += 3) {
    for (int x = 0; x < width; x += 3) {
      if (!covers(x, y)) continue;
      ++inside;
      equal += channel(0, y, x) == value ? 1 : 0;
    }
  }
  if (equal > inside / 50) *this = before;
}

}  // namespace limpid
