#include "measure/saturation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/statistics.h"

namespace limpid {
namespace {

struct Plateau {
  float level;  ///< highest value that a pixel and its four neighbours all reach
  int pixels;   ///< near that level; 0 when they are no more than an unclipped star has
};

/// Pixels around a star's centre, at most, that are within `tolerance` (a share of the peak) of a
/// pixel beside the central one.
int natural_pixels(const StarTemplate& shape, float tolerance) {
  const int reach = static_cast<int>(std::ceil(2 * shape.fwhm_px));
  int count = 1;
  for (int y = -reach; y <= reach; ++y) {
    for (int x = -reach; x <= reach; ++x) {
      const auto distance = static_cast<float>(std::hypot(x, y));
      if (shape.profile(distance) > (1 - 2 * tolerance) * shape.profile(1)) ++count;
    }
  }
  return count;
}

/// The flat top around a peak, if it has one: its level, and the pixels near that level of the
/// highest of those that have four equals around them. It must fall below half within three FWHM,
/// or further out, but then steeply, as no core of a galaxy does: the brightest stars are clipped
/// over many FWHM.
Plateau flat_top(ConstView channel, const Peak& peak, SkyLevel sky, const StarTemplate& shape) {
  const int reach = std::max(2, static_cast<int>(std::lround(shape.fwhm_px)));
  const int far = static_cast<int>(std::ceil(3 * shape.fwhm_px)) + reach;
  const Rect whole{0, 0, channel.width(), channel.height()};
  const auto around = [&](int radius) {
    return intersect({peak.x - radius, peak.y - radius, 2 * radius + 1, 2 * radius + 1}, whole);
  };
  const Rect near = intersect(around(reach), {1, 1, channel.width() - 2, channel.height() - 2});
  float top = -std::numeric_limits<float>::infinity();
  for (int y = near.y; y < near.y + near.height; ++y) {
    for (int x = near.x; x < near.x + near.width; ++x) {
      const float least = std::min({channel(0, y, x), channel(0, y, x - 1), channel(0, y, x + 1),
                                    channel(0, y - 1, x), channel(0, y + 1, x)});
      if (std::isfinite(least)) top = std::max(top, least);
    }
  }
  const float height = top - sky.sky;
  // Below this, noise hides what is flat.
  constexpr float least_snr = 25;
  if (!(height > least_snr * sky.sigma)) return {0, 0};
  const float tolerance = std::max(0.02F, 2 * sky.sigma / height);
  int flat = 0, bright = 0;
  bool falls = false;
  const auto look = [&](Rect box) {
    flat = bright = 0;
    falls = false;
    for (int y = box.y; y < box.y + box.height; ++y) {
      for (int x = box.x; x < box.x + box.width; ++x) {
        const float value = channel(0, y, x);
        if (std::abs(value - top) <= tolerance * height) ++flat;
        falls = falls || value - sky.sky < 0.5F * height;
        if (value - sky.sky >= 0.5F * height) ++bright;
      }
    }
  };
  look(around(far));
  const bool wide = !falls;
  constexpr int farthest_px = 60;
  for (int radius = 2 * far; !falls && radius < 2 * farthest_px; radius *= 2)
    look(around(std::min(radius, farthest_px)));
  const auto fewest = [](int natural) { return 3 * natural / 2 + 4; };
  const bool clipped = falls && (!wide || bright < 2 * flat) && flat > fewest(1) &&
                       flat > fewest(natural_pixels(shape, tolerance));
  return {top, clipped ? flat : 0};
}

}  // namespace

std::vector<float> find_saturation(ConstView frame, const std::vector<Peak>& peaks,
                                   const SkyModel& sky, const StarTemplate& shape) {
  std::vector<float> saturation;
  for (int c = 0; c < frame.channels(); ++c) {
    const SkyLevel& level = sky.level[static_cast<std::size_t>(c)];
    std::vector<float> tops;
    float highest = 0, highest_unclipped = 0;
    for (const Peak& peak : peaks) {
      constexpr float least_snr = 30;
      if (peak.snr < least_snr) continue;
      const Plateau plateau = flat_top(frame.channel(c), peak, level, shape);
      const float height = plateau.level - level.sky;
      if (plateau.pixels == 0) {
        highest_unclipped = std::max(highest_unclipped, height);
        continue;
      }
      tops.push_back(height);
      highest = std::max(highest, height);
    }
    // A star that rises over the flat ones shows that these are flat by nature, not by clipping.
    if (highest_unclipped > 1.1F * highest) tops.clear();
    // Cores of galaxies may look flat too, but lie anywhere; clipped stars pile up at the top.
    std::erase_if(tops, [highest](float top) { return top < 0.85F * highest; });
    saturation.push_back(tops.empty() ? std::numeric_limits<float>::infinity()
                                      : level.sky + 0.97F * quantile(tops, 0.1));
  }
  return saturation;
}

}  // namespace limpid
