// Whether a frame is still the mosaic of a colour camera.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <limpid/picture.h>

#include "core/statistics.h"

namespace limpid {
namespace {

constexpr std::size_t most_cells = 200'000;
/// How far a colour must stand from green, in units of the noise of one pixel and of what the
/// medians are known to.
constexpr float least_difference = 0.2F, least_certainty = 8;
/// How far both greens may differ, as a share of that: rows or columns of two amplifiers differ on
/// both diagonals alike.
constexpr float greens_differ = 0.2F;

}  // namespace

bool looks_like_mosaic(ConstView frame) {
  if (frame.channels() != 1 || frame.width() < 16 || frame.height() < 16) return false;
  const std::size_t cells = frame.size().pixels() / 4;
  const int step =
      2 * std::max(1, static_cast<int>(std::sqrt(static_cast<double>(cells) / most_cells)));
  // against the first pixel of a cell: nebulae and skies that rise cancel
  std::array<std::vector<float>, 4> above_first;
  for (int y = 0; y + 1 < frame.height(); y += step) {
    for (int x = 0; x + 1 < frame.width(); x += step) {
      const std::array cell{frame(0, y, x), frame(0, y, x + 1), frame(0, y + 1, x),
                            frame(0, y + 1, x + 1)};
      if (!std::ranges::all_of(cell, [](float v) { return std::isfinite(v); })) continue;
      for (std::size_t i = 0; i < 4; ++i) above_first[i].push_back(cell[i] - cell[0]);
    }
  }
  const std::size_t count = above_first[0].size();
  if (count < 64) return false;
  std::array<float, 4> level{};
  float sigma = 0;
  for (std::size_t i = 1; i < 4; ++i) {
    const auto [middle, scatter] = robust_spread(above_first[i]);
    level[i] = middle;
    sigma = std::max(sigma, scatter / std::sqrt(2.0F));  // of a difference of two pixels
  }
  const float least = std::max(least_difference * sigma,
                               least_certainty * 2 * sigma / std::sqrt(static_cast<float>(count)));
  const auto mosaic = [&](std::size_t green, std::size_t other_green, std::size_t a,
                          std::size_t b) {
    const float mean = (level[green] + level[other_green]) / 2;
    const float colour = std::max(std::abs(level[a] - mean), std::abs(level[b] - mean));
    return colour > least && std::abs(level[green] - level[other_green]) < greens_differ * colour;
  };
  return mosaic(0, 3, 1, 2) || mosaic(1, 2, 0, 3);
}

}  // namespace limpid
