#include <limpid/picture.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "core/statistics.h"

namespace limpid {
namespace {

/// Midtones transfer function: 0 -> 0, m -> 1/2, 1 -> 1. PixInsight reference, "Histogram
/// Transformation".
float mtf(float x, float m) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  return (m - 1) * x / ((2 * m - 1) * x - m);
}

}  // namespace

Stretch measure_stretch(ConstView frame) {
  // the constants of PixInsight's automatic stretch
  constexpr float shadows_sigma = 2.8F, target = 0.25F;
  // every so many rows: a few hundred thousand samples settle a median
  const int step = std::max(1, static_cast<int>(frame.size().pixels() / 400000));
  Stretch stretch;
  float above_black = 0;
  for (int channel = 0; channel < frame.channels(); ++channel) {
    std::vector<float> samples;
    for (int y = 0; y < frame.height(); y += step) {
      const auto row = frame.row(channel, y);
      // zeros are the borders that registration leaves
      std::ranges::copy_if(row, std::back_inserter(samples), [](float v) { return v != 0; });
    }
    const auto [median, sigma] = robust_spread(samples);
    const float black = std::isnan(median) ? 0.0F : median - shadows_sigma * sigma;
    stretch.black.push_back(black);
    if (!std::isnan(median)) above_black += (median - black) / (1 - black);
  }
  const float sky = above_black / static_cast<float>(std::max(1, frame.channels()));
  // mtf(sky, m) = target, solved for m, is the same function with the roles exchanged
  if (sky > 0) stretch.midtones = mtf(sky, target);
  return stretch;
}

Image apply(const Stretch& stretch, ConstView frame) {
  assert(static_cast<int>(stretch.black.size()) == frame.channels());
  Image picture(frame.channels(), frame.size());
  for (int channel = 0; channel < frame.channels(); ++channel) {
    const float black = stretch.black[static_cast<std::size_t>(channel)];
    for (int y = 0; y < frame.height(); ++y) {
      std::ranges::transform(
          frame.row(channel, y), picture.view().row(channel, y).begin(), [&](float v) {
            return std::isnan(v) ? 0.0F : mtf((v - black) / (1 - black), stretch.midtones);
          });
    }
  }
  return picture;
}

Image enlarge(ConstView frame, int factor) {
  assert(factor > 0);
  Image picture(frame.channels(), {frame.width() * factor, frame.height() * factor});
  for (int channel = 0; channel < frame.channels(); ++channel) {
    for (int y = 0; y < picture.height(); ++y) {
      const auto from = frame.row(channel, y / factor);
      const auto to = picture.view().row(channel, y);
      for (int x = 0; x < picture.width(); ++x) {
        to[static_cast<std::size_t>(x)] = from[static_cast<std::size_t>(x / factor)];
      }
    }
  }
  return picture;
}

}  // namespace limpid
