#include "train/invented_stars.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <vector>

#include <limpid/stars.h>

#include "core/statistics.h"

namespace limpid {
namespace {

constexpr int core_px = 1, inner_px = 3, outer_px = 5;  // half the sides of squares
constexpr float found_sigma = 5, shown_sigma = 3.5F;
/// What a star found at 5 sigma has at least, by the coarser measure of narrow_light().
constexpr double least_sigma = 3;

/// Light of the core over the median of what is around it, in the mean of the channels.
double narrow_light(ConstView picture, const Star& star) {
  const int x = static_cast<int>(std::lround(star.x)), y = static_cast<int>(std::lround(star.y));
  double core = 0;
  int pixels = 0;
  std::vector<float> around;
  for (int row = std::max(y - outer_px, 0); row <= std::min(y + outer_px, picture.height() - 1);
       ++row) {
    for (int column = std::max(x - outer_px, 0);
         column <= std::min(x + outer_px, picture.width() - 1); ++column) {
      const int away = std::max(std::abs(row - y), std::abs(column - x));
      if (away > core_px && away <= inner_px) continue;
      float light = 0;
      for (int c = 0; c < picture.channels(); ++c) light += picture(c, row, column);
      light /= static_cast<float>(picture.channels());
      if (away > inner_px) {
        around.push_back(light);
      } else {
        core += static_cast<double>(light);
        ++pixels;
      }
    }
  }
  return core / pixels - static_cast<double>(median(around));
}

/// Of narrow_light(), where there is nothing but sky.
double narrow_noise(const StarCatalogue& of) {
  double variance = 0;
  for (const SkyLevel& sky : of.sky) {
    const double sigma = static_cast<double>(sky.sigma) / static_cast<double>(of.sky.size());
    variance += sigma * sigma;
  }
  constexpr auto area = [](int half) { return (2.0 * half + 1) * (2 * half + 1); };
  // a median has pi / 2 times a mean's variance
  constexpr double per_pixel =
      1 / area(core_px) + std::numbers::pi / 2 / (area(outer_px) - area(inner_px));
  return std::sqrt(variance * per_pixel);
}

StarCatalogue found(ConstView picture, float threshold_sigma, int threads) {
  return detect_stars(picture,
                      {.threshold_sigma = threshold_sigma, .max_fits = 0, .threads = threads});
}

}  // namespace

InventedStars invented_stars(ConstView result, ConstView wanted, int threads) {
  const StarCatalogue shown = found(wanted, shown_sigma, threads);
  const double noise = narrow_noise(shown);
  InventedStars counted;
  for (const Star& star : found(result, found_sigma, threads).stars) {
    if (std::ranges::any_of(shown.stars, [&](const Star& other) {
          return std::hypot(star.x - other.x, star.y - other.y) <= 3;
        }))
      continue;
    ++counted.unseen;
    const double light = narrow_light(result, star);
    if (light > least_sigma * noise && narrow_light(wanted, star) < (light - noise) / 2)
      ++counted.invented;
  }
  return counted;
}

}  // namespace limpid
