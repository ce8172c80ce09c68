#include "core/box_mean.h"

#include <array>

#include "core/lanes.h"

namespace limpid {
namespace {

/// One piece of the sum, which stays in registers until all lines are added: most of the time goes
/// into reading and writing.
template <std::size_t count>
void sum_piece(std::span<const float* const> lines, std::size_t x, float* sum) {
  std::array<FloatLanes, count> sums{};
  for (const float* line : lines) {
    for (std::size_t i = 0; i < count; ++i) sums[i] += load_floats(line + x + i * float_lane_count);
  }
  for (std::size_t i = 0; i < count; ++i) store_floats(sum + x + i * float_lane_count, sums[i]);
}

/// `sum` is none of the lines: the last piece may reach back into the one before, since what is
/// left would take longer one by one than all before it.
void sum_lines(std::span<const float* const> lines, std::span<float> sum) {
  constexpr std::size_t lanes = float_lane_count, large = 4;
  std::size_t x = 0;
  for (; x + large * lanes <= sum.size(); x += large * lanes)
    sum_piece<large>(lines, x, sum.data());
  for (; x + lanes <= sum.size(); x += lanes) sum_piece<1>(lines, x, sum.data());
  if (x < sum.size() && sum.size() >= lanes) {
    sum_piece<1>(lines, sum.size() - lanes, sum.data());
    return;
  }
  for (; x < sum.size(); ++x) {
    sum[x] = 0;
    for (const float* line : lines) sum[x] += line[x];
  }
}

}  // namespace

BoxMeanRow::BoxMeanRow(int width, int half)
    : half_(static_cast<std::size_t>(half)),
      sums_(static_cast<std::size_t>(width) + 2 * half_, 0.0F) {
  for (int x = 0; x < width; ++x) {
    shares_.push_back(1 /
                      static_cast<float>(std::min(width, x + half + 1) - std::max(0, x - half)));
  }
  for (std::size_t i = 0; i < 2 * half_ + 1; ++i) shifted_.push_back(sums_.data() + i);
}

void BoxMeanRow::mean_of(std::span<const float* const> rows, std::span<float> out) {
  sum_lines(rows, std::span(sums_).subspan(half_, shares_.size()));
  sum_lines(shifted_, out);
  const float share = 1 / static_cast<float>(rows.size());
  for (std::size_t x = 0; x < shares_.size(); ++x) out[x] *= share * shares_[x];
}

Image box_mean(ConstView plane, int half) {
  BoxMeanRow means(plane.width(), half);
  Image result = Image::unset(1, plane.size());
  std::vector<const float*> rows;
  for (int y = 0; y < plane.height(); ++y) {
    rows.clear();
    for (int i = std::max(0, y - half); i < std::min(plane.height(), y + half + 1); ++i)
      rows.push_back(plane.row(0, i).data());
    means.mean_of(rows, result.view().row(0, y));
  }
  return result;
}

}  // namespace limpid
