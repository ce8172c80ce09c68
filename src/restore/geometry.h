// Places about stars.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include <limpid/image.h>
#include <limpid/stars.h>

#include "core/length.h"

namespace limpid {

inline Rect grown(Rect r, int by) {
  return {r.x - by, r.y - by, r.width + 2 * by, r.height + 2 * by};
}

/// Calls work(x, y) for the pixels of a rectangle.
template <typename Work>
void for_pixels(Rect box, Work work) {
  for (int y = box.y; y < box.y + box.height; ++y) {
    for (int x = box.x; x < box.x + box.width; ++x) work(x, y);
  }
}

/// Of 2 reach + 1 px, about the pixel in which the star stands.
inline Rect square_around(const Star& star, int reach) {
  return {static_cast<int>(std::lround(star.x)) - reach,
          static_cast<int>(std::lround(star.y)) - reach, 2 * reach + 1, 2 * reach + 1};
}

/// From (x, y) to a pixel's centre, px.
inline float distance(float x, float y, int px, int py) {
  return static_cast<float>(length_of(static_cast<float>(px) - x, static_cast<float>(py) - y));
}
/// From the star's centre to the pixel's, px.
inline float distance(const Star& star, int x, int y) { return distance(star.x, star.y, x, y); }

/// 1 up to `from`, 0 from `to` on, half a cosine between.
inline float falling(float at, float from, float to) {
  const float t = (at - from) / (to - from), u = std::clamp(t, 0.0F, 1.0F) - 0.5F, u2 = u * u;
  // sin(pi u) / 2 by a polynomial, best in the greatest error of 2e-9: compilers work on several
  // pixels at a time where there is no call
  const float half_sine =
      u * (1.57079629F +
           u2 * (-2.58385344F + u2 * (1.27501569F + u2 * (-0.29902259F + u2 * 0.03861006F))));
  return t <= 0 ? 1 : t >= 1 ? 0 : 0.5F - half_sine;
}

/// A pixel counts as clipped from this share of the saturation on.
inline constexpr float clipped_share = 0.98F;
/// Whether any channel reaches `level` there.
inline bool any_reaches(ConstView frame, float level, int x, int y) {
  for (int c = 0; c < frame.channels(); ++c) {
    if (frame(c, y, x) >= level) return true;
  }
  return false;
}
/// 1 for the pixels of row y in which any channel does; the others' flags stay.
template <typename Flag>
void flag_reaching(ConstView frame, float level, int y, std::span<Flag> flags) {
  for (int c = 0; c < frame.channels(); ++c) {
    const auto row = frame.row(c, y);
    for (std::size_t x = 0; x < flags.size(); ++x) flags[x] = row[x] >= level ? 1 : flags[x];
  }
}

}  // namespace limpid
