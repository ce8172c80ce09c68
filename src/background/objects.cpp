#include "background/objects.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include <Eigen/Dense>

#include "core/box_mean.h"
#include "core/statistics.h"

namespace limpid::background {
namespace {

constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

/// Scatter of neighbouring pixels' differences: noise without gradients or nebulae.
float pixel_noise(ConstView frame, int channel) {
  std::vector<float> differences;
  for (int y = 0; y < frame.height(); ++y) {
    const auto row = frame.row(channel, y);
    for (std::size_t x = 1; x < row.size(); ++x)
      differences.push_back(std::abs(row[x] - row[x - 1]));
  }
  return sigma_per_mad / std::sqrt(2.0F) * median(differences);
}

/// Mean over the channels of (frame - sky) / noise; NaN where there is no data.
Image excess(ConstView frame, ConstView sky) {
  Image result(1, frame.size());
  for (int c = 0; c < frame.channels(); ++c) {
    const float noise = pixel_noise(frame, c);
    const float scale = noise > 0 ? 1.0F / (noise * static_cast<float>(frame.channels())) : 0.0F;
    for (int y = 0; y < frame.height(); ++y) {
      const auto to = result.view().row(0, y);
      const auto row = frame.row(c, y);
      const auto level = sky.row(c, y);
      for (std::size_t x = 0; x < row.size(); ++x) to[x] += scale * (row[x] - level[x]);
    }
  }
  return result;
}

/// Means over squares of 2 radius + 1 pixels, of those with data and `mask` above 0.
Image masked_mean(ConstView image, ConstView mask, int radius) {
  Image light(1, image.size(), 0.0F), share(1, image.size(), 0.0F);
  for (int y = 0; y < image.height(); ++y) {
    const auto from = image.row(0, y), seen = mask.row(0, y);
    const auto to = light.view().row(0, y), one = share.view().row(0, y);
    for (std::size_t x = 0; x < from.size(); ++x) {
      if (!(seen[x] > 0) || std::isnan(from[x])) continue;
      to[x] = from[x];
      one[x] = 1;
    }
  }
  light = box_mean(light.view(), radius);
  share = box_mean(share.view(), radius);
  // a quarter of the square, but for rounding, or the mean is that of a few pixels at an object's
  // edge
  constexpr float least_share = 0.2499F;
  std::ranges::transform(light.pixels(), share.pixels(), light.pixels().begin(),
                         [](float sum, float of) { return of < least_share ? no_data : sum / of; });
  return light;
}

using Places = std::vector<std::size_t>;

/// Groups of connected (8 neighbours) pixels above `low`, each with one above `high`.
std::vector<Places> grown(ConstView image, float high, float low) {
  const int width = image.width(), height = image.height();
  std::vector<char> taken(image.size().pixels(), 0);
  std::vector<Places> groups;
  const auto offer = [&](Places& group, int x, int y, float limit) {
    const std::size_t at =
        static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x);
    if (taken[at] != 0 || !(image(0, y, x) > limit)) return;
    taken[at] = 1;
    group.push_back(at);
  };
  for (int top = 0; top < height; ++top) {
    for (int left = 0; left < width; ++left) {
      Places group;
      offer(group, left, top, high);
      for (std::size_t i = 0; i < group.size(); ++i) {
        const int x = static_cast<int>(group[i] % static_cast<std::size_t>(width));
        const int y = static_cast<int>(group[i] / static_cast<std::size_t>(width));
        for (int v = std::max(0, y - 1); v <= std::min(height - 1, y + 1); ++v) {
          for (int u = std::max(0, x - 1); u <= std::min(width - 1, x + 1); ++u)
            offer(group, u, v, low);
        }
      }
      if (!group.empty()) groups.push_back(std::move(group));
    }
  }
  return groups;
}

/// Whether a group is rather an error of the sky's model: it reaches the frame's edge, where the
/// lights of towns and of the Moon come from, it is large, and a cubic surface explains it, while
/// nebulae are ragged.
bool looks_like_sky(const Places& group, ConstView smooth, const Spread& spread) {
  constexpr double smallest_share = 0.004, most_left = 0.06;
  constexpr int terms = 10;
  const int width = smooth.width(), height = smooth.height();
  if (static_cast<double>(group.size()) <
      smallest_share * static_cast<double>(smooth.size().pixels()))
    return false;
  bool at_edge = false;
  Eigen::Matrix<double, terms, terms> normal = Eigen::Matrix<double, terms, terms>::Zero();
  Eigen::Matrix<double, terms, 1> right = Eigen::Matrix<double, terms, 1>::Zero();
  double power = 0;
  for (const std::size_t at : group) {
    const int x = static_cast<int>(at % static_cast<std::size_t>(width)),
              y = static_cast<int>(at / static_cast<std::size_t>(width));
    at_edge = at_edge || x == 0 || y == 0 || x == width - 1 || y == height - 1;
    const double u = 2.0 * x / width - 1, v = 2.0 * y / height - 1,
                 value = static_cast<double>(smooth(0, y, x) - spread.median);
    const Eigen::Matrix<double, terms, 1> t{1,     u,         v,         u * u,     u * v,
                                            v * v, u * u * u, u * u * v, u * v * v, v * v * v};
    normal += t * t.transpose();
    right += value * t;
    power += value * value;
  }
  if (!at_edge) return false;
  normal.diagonal().array() += 1e-9 * normal.trace();
  const double noise =
      static_cast<double>(group.size()) * static_cast<double>(spread.sigma * spread.sigma);
  const double left = power - right.dot(normal.ldlt().solve(right)) - noise;
  return left < most_left * power;
}

/// Zero within `radius` (a square) of the pixels found.
void erase(MutableView mask, const Places& found, int radius) {
  const auto width = static_cast<std::size_t>(mask.width());
  for (const std::size_t at : found) {
    const int x = static_cast<int>(at % width), y = static_cast<int>(at / width);
    for (int v = std::max(0, y - radius); v <= std::min(mask.height() - 1, y + radius); ++v) {
      const auto row = mask.row(0, v);
      const auto left = static_cast<std::size_t>(std::max(0, x - radius));
      const auto right = std::min(width, static_cast<std::size_t>(x + radius + 1));
      std::fill(row.begin() + static_cast<std::ptrdiff_t>(left),
                row.begin() + static_cast<std::ptrdiff_t>(right), 0.0F);
    }
  }
}

/// Level and scatter of the sky in a smoothed picture, from the pixels below its mode's guess: what
/// lies below is no object, so it tells noise and the errors of the sky's model.
Spread lower_half(ConstView smooth, ConstView mask) {
  std::vector<float> values;
  for (int y = 0; y < smooth.height(); ++y) {
    for (int x = 0; x < smooth.width(); ++x) {
      if (mask(0, y, x) > 0 && !std::isnan(smooth(0, y, x))) values.push_back(smooth(0, y, x));
    }
  }
  if (values.empty()) return {0, 0};
  const float level = sigma_clip(values, {.low_sigma = 5, .high_sigma = 2}).median;
  std::vector<float> below;
  for (const float value : values) {
    if (value < level) below.push_back(level - value);
  }
  return {level, sigma_per_mad * median(below)};
}

}  // namespace

namespace {

/// Largest over the channels, against half of the pixels' own noise (roughly its mean over a block)
/// being averaged away.
double measure_roughness(ConstView frame, ConstView mask, ConstView sky,
                         const std::vector<float>& noise) {
  constexpr int radius = 4;
  double roughness = 0;
  for (int c = 0; c < frame.channels(); ++c) {
    Image left(1, frame.size());
    for (int y = 0; y < frame.height(); ++y) {
      std::ranges::transform(frame.row(c, y), sky.row(c, y), left.view().row(0, y).begin(),
                             std::minus<>());
    }
    const Image smooth = masked_mean(left.view(), mask, radius);
    const double sigma = static_cast<double>(robust_spread(smooth.pixels()).sigma);
    roughness =
        std::max(roughness, sigma / static_cast<double>(noise[static_cast<std::size_t>(c)]));
  }
  return roughness;
}

}  // namespace

Objects find_objects(ConstView frame, ConstView mask, ConstView sky,
                     const std::vector<float>& noise) {
  // Seeds must be certain; from there objects reach down into the noise of the smoothed sky. Dark
  // foregrounds are masked where they are far below any error of the sky's model.
  constexpr float seed_sigma = 5, reach_sigma = 1.5F, dark_sigma = 8, dark_reach_sigma = 3;
  // Where averaging leaves next to no noise, errors of the sky's model are what stands out first.
  constexpr float faintest = 0.3F;
  // Smaller things are looked for over their surroundings, so that an error of the sky's model does
  // not turn all of a region into a star.
  constexpr int compact_px = 2, surroundings_px = 8;
  Objects found{.mask = copy(mask)};
  Image& result = found.mask;
  const Image over = excess(frame, sky);
  const auto remaining = [&] {
    return std::ranges::count_if(result.pixels(), [](float v) { return v > 0; });
  };
  const auto before = static_cast<double>(remaining());
  std::ptrdiff_t without_compact = remaining();
  const auto least = static_cast<std::ptrdiff_t>((1 - most_masked) * before);
  const int largest = std::max(1, std::min(frame.width(), frame.height()) / 16);
  // the smallest scale twice: bright stars lift the surroundings of the first pass
  for (const int radius : {0, 0, 1, 2, 4, 8, 16, 32, 64}) {
    if (radius > largest) break;
    Image smooth = masked_mean(over.view(), result.view(), radius);
    const bool compact = radius <= compact_px;
    if (radius == 2 * compact_px) {
      without_compact = remaining();
      found.roughness = measure_roughness(frame, result.view(), sky, noise);
    }
    if (compact) {
      const Image around = masked_mean(over.view(), result.view(), surroundings_px);
      std::ranges::transform(smooth.pixels(), around.pixels(), smooth.pixels().begin(),
                             std::minus<>());
    }
    Spread spread = lower_half(smooth.view(), result.view());
    if (!compact) spread.sigma = std::max(spread.sigma, faintest);
    if (!(spread.sigma > 0)) continue;
    Image dark = smooth.clone();
    for (float& value : dark.pixels()) value = -value;
    for (float strictness = 1; strictness < 100; strictness *= 1.5F) {
      Image attempt = result.clone();
      const float unit = strictness * spread.sigma;
      for (const Places& group : grown(smooth.view(), spread.median + seed_sigma * unit,
                                       spread.median + reach_sigma * unit)) {
        if (!compact && looks_like_sky(group, smooth.view(), spread)) continue;
        erase(attempt.view(), group, radius == 0 ? 1 : radius / 2);
      }
      for (const Places& group : grown(dark.view(), -spread.median + dark_sigma * unit,
                                       -spread.median + dark_reach_sigma * unit)) {
        if (compact || !looks_like_sky(group, dark.view(), {-spread.median, spread.sigma})) {
          erase(attempt.view(), group, 1);
        }
      }
      std::swap(attempt, result);
      if (remaining() >= least) break;
      std::swap(attempt, result);
    }
  }
  found.large_share = static_cast<double>(without_compact - remaining()) / std::max(1.0, before);
  return found;
}

}  // namespace limpid::background
