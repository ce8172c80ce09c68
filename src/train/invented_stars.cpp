#include "train/invented_stars.h"

#include <algorithm>
#include <cmath>

#include <limpid/stars.h>

namespace limpid {
namespace {

/// Sum and count of the pixels at most `reach` px from (x, y) along rows and columns.
struct Square {
  double sum = 0;
  int count = 0;
};

Square square(ConstView picture, int x, int y, int reach) {
  Square s;
  const int left = std::max(x - reach, 0), right = std::min(x + reach, picture.width() - 1);
  for (int row = std::max(y - reach, 0); row <= std::min(y + reach, picture.height() - 1); ++row) {
    for (int c = 0; c < picture.channels(); ++c) {
      for (int column = left; column <= right; ++column) s.sum += picture(c, row, column);
    }
    s.count += picture.channels() * (right - left + 1);
  }
  return s;
}

double narrow_light(ConstView picture, const Star& star) {
  const int x = static_cast<int>(std::lround(star.x)), y = static_cast<int>(std::lround(star.y));
  const Square core = square(picture, x, y, 1), within = square(picture, x, y, 3),
               around = square(picture, x, y, 5);
  return core.sum / core.count - (around.sum - within.sum) / (around.count - within.count);
}

std::vector<Star> found(ConstView picture, float threshold_sigma, int threads) {
  return detect_stars(picture,
                      {.threshold_sigma = threshold_sigma, .max_fits = 0, .threads = threads})
      .stars;
}

}  // namespace

InventedStars invented_stars(ConstView result, ConstView wanted, int threads) {
  const auto right = found(wanted, 3.5F, threads);
  InventedStars counted;
  for (const Star& star : found(result, 5, threads)) {
    if (std::ranges::any_of(right, [&](const Star& other) {
          return std::hypot(star.x - other.x, star.y - other.y) <= 3;
        }))
      continue;
    ++counted.unseen;
    const double light = narrow_light(result, star), true_light = narrow_light(wanted, star);
    // a ridge's detection may have no light of its own; more than the truth has it may not have
    if (light - true_light > 0.5 * std::max(light, 0.0)) ++counted.invented;
  }
  return counted;
}

}  // namespace limpid
