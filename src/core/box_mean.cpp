#include "core/box_mean.h"

#include <algorithm>
#include <vector>

namespace limpid {

Image box_mean(ConstView plane, int half) {
  const int width = plane.width(), height = plane.height();
  const auto side = static_cast<std::size_t>(half), columns = static_cast<std::size_t>(width);
  // sums of columns, with zeros on both sides
  std::vector<float> sums(columns + 2 * side, 0), shares(columns);
  for (int x = 0; x < width; ++x) {
    shares[static_cast<std::size_t>(x)] =
        1 / static_cast<float>(std::min(width, x + half + 1) - std::max(0, x - half));
  }
  Image means(1, plane.size());
  for (int y = 0; y < height; ++y) {
    const int top = std::max(0, y - half), bottom = std::min(height, y + half + 1);
    float* const sum = sums.data() + side;
    std::fill_n(sum, columns, 0.0F);
    for (int v = top; v < bottom; ++v) {
      const float* const row = plane.row(0, v).data();
      for (std::size_t x = 0; x < columns; ++x) sum[x] += row[x];
    }
    float* const out = means.view().row(0, y).data();
    for (std::size_t k = 0; k <= 2 * side; ++k) {
      const float* const shifted = sums.data() + k;
      for (std::size_t x = 0; x < columns; ++x) out[x] += shifted[x];
    }
    const float share = 1 / static_cast<float>(bottom - top);
    for (std::size_t x = 0; x < columns; ++x) out[x] *= share * shares[x];
  }
  return means;
}

}  // namespace limpid
