#include "core/box_mean.h"

#include <algorithm>
#include <span>
#include <vector>

namespace limpid {
namespace {

/// Sum of `count` lines that begin `step` apart. Three at a time: most of the time goes into
/// reading and writing the sum.
void sum_lines(const float* line, std::ptrdiff_t step, int count, std::span<float> sum) {
  std::ranges::fill(sum, 0.0F);
  int done = 0;
  for (; done + 3 <= count; done += 3, line += 3 * step) {
    const float *second = line + step, *third = second + step;
    for (std::size_t x = 0; x < sum.size(); ++x) sum[x] = sum[x] + line[x] + second[x] + third[x];
  }
  for (; done < count; ++done, line += step) {
    for (std::size_t x = 0; x < sum.size(); ++x) sum[x] += line[x];
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
