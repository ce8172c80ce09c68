#include "core/box_mean.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "core/lanes.h"

namespace limpid {
namespace {

FloatLanes load(const float* from) {
  FloatLanes values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

void store(float* to, FloatLanes values) { std::memcpy(to, &values, sizeof values); }

/// Sum of `count` lines that begin `step` apart. A piece of it stays in registers until all lines
/// are added: most of the time goes into reading and writing.
void sum_lines(const float* line, std::ptrdiff_t step, int count, std::span<float> sum) {
  constexpr std::size_t lanes = float_lane_count, piece = 4 * lanes;
  std::size_t x = 0;
  for (; x + piece <= sum.size(); x += piece) {
    FloatLanes first{}, second{}, third{}, fourth{};
    const float* from = line + x;
    for (int i = 0; i < count; ++i, from += step) {
      first += load(from);
      second += load(from + lanes);
      third += load(from + 2 * lanes);
      fourth += load(from + 3 * lanes);
    }
    store(&sum[x], first);
    store(&sum[x + lanes], second);
    store(&sum[x + 2 * lanes], third);
    store(&sum[x + 3 * lanes], fourth);
  }
  for (; x < sum.size(); ++x) {
    sum[x] = 0;
    for (int i = 0; i < count; ++i) sum[x] += line[i * step + static_cast<std::ptrdiff_t>(x)];
  }
}

}  // namespace

Image box_mean(ConstView plane, int half) {
  const int width = plane.width(), height = plane.height();
  const auto side = static_cast<std::size_t>(half), columns = static_cast<std::size_t>(width);
  // sums of columns, with zeros on both sides
  std::vector<float> sums(columns + 2 * side, 0), shares(columns);
  for (int x = 0; x < width; ++x) {
    shares[static_cast<std::size_t>(x)] =
        1 / static_cast<float>(std::min(width, x + half + 1) - std::max(0, x - half));
  }
  Image means = Image::unset(1, plane.size());
  for (int y = 0; y < height; ++y) {
    const int top = std::max(0, y - half), bottom = std::min(height, y + half + 1);
    sum_lines(plane.row(0, top).data(), plane.row_stride(), bottom - top,
              std::span(sums).subspan(side, columns));
    const auto out = means.view().row(0, y);
    sum_lines(sums.data(), 1, 2 * half + 1, out);
    const float share = 1 / static_cast<float>(bottom - top);
    for (std::size_t x = 0; x < columns; ++x) out[x] *= share * shares[x];
  }
  return means;
}

}  // namespace limpid
