#include <limpid/picture.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <iterator>
#include <numeric>

#include "core/parallel.h"
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

/// Half the size; means over what is not NaN.
Image halve(ConstView frame, int threads) {
  Image small(frame.channels(), {(frame.width() + 1) / 2, (frame.height() + 1) / 2});
  parallel_for(small.height(), threads, [&](int y) {
    for (int channel = 0; channel < frame.channels(); ++channel) {
      const auto above = frame.row(channel, 2 * y);
      const auto below = frame.row(channel, std::min(2 * y + 1, frame.height() - 1));
      const auto out = small.view().row(channel, y);
      for (std::size_t x = 0; x < out.size(); ++x) {
        const std::size_t left = 2 * x, right = std::min(2 * x + 1, above.size() - 1);
        const float sum = (above[left] + above[right]) + (below[left] + below[right]);
        out[x] = sum / 4;
        if (!std::isnan(sum)) continue;
        float known = 0;
        int count = 0;
        for (const float value : {above[left], above[right], below[left], below[right]}) {
          if (std::isnan(value)) continue;
          known += value;
          ++count;
        }
        out[x] = count > 0 ? known / static_cast<float>(count) : sum;
      }
    }
  });
  return small;
}

}  // namespace

Stretch measure_stretch(ConstView frame, const StretchOptions& options) {
  // the constant of PixInsight's automatic stretch
  constexpr float shadows_sigma = 2.8F;
  // every so many rows: a few hundred thousand samples settle a median
  const int step = std::max(1, static_cast<int>(frame.size().pixels() / 400000));
  Stretch stretch;
  std::vector<float> medians;
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
    medians.push_back(median);
  }
  if (options.linked) {
    const float mean = std::accumulate(stretch.black.begin(), stretch.black.end(), 0.0F) /
                       static_cast<float>(std::max(1, frame.channels()));
    std::ranges::fill(stretch.black, mean);
  }
  float above_black = 0;
  for (std::size_t channel = 0; channel < medians.size(); ++channel) {
    const float median = medians[channel], black = stretch.black[channel];
    if (!std::isnan(median)) above_black += (median - black) / (1 - black);
  }
  const float sky = above_black / static_cast<float>(std::max(1, frame.channels()));
  // mtf(sky, m) = wanted, solved for m, is the same function with the roles exchanged
  if (sky > 0) stretch.midtones = mtf(sky, options.sky);
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

Pyramid::Pyramid(ConstView frame, int smallest_px, int threads) : frame_(frame) {
  assert(smallest_px > 0);
  for (ConstView last = frame; std::max(last.width(), last.height()) > smallest_px;) {
    halved_.push_back(halve(last, threads));
    last = halved_.back().view();
  }
}

ConstView Pyramid::level(int index) const {
  assert(index >= 0 && index < levels());
  return index == 0 ? frame_ : halved_[static_cast<std::size_t>(index - 1)].view();
}

Image every(int step, Size frame, const std::function<Image(Rect)>& read) {
  assert(step >= 1 && frame.width > 0 && frame.height > 0);
  const Size size{(frame.width + step - 1) / step, (frame.height + step - 1) / step};
  Image sparse;
  for (int y = 0; y < size.height; ++y) {
    const Image row = read({0, std::min(y * step + step / 2, frame.height - 1), frame.width, 1});
    if (sparse.empty()) sparse = Image(row.channels(), size);
    for (int c = 0; c < row.channels(); ++c) {
      const std::span<const float> from = row.view().row(c, 0);
      const auto to = sparse.view().row(c, y);
      for (int x = 0; x < size.width; ++x)
        to[static_cast<std::size_t>(x)] =
            from[static_cast<std::size_t>(std::min(x * step + step / 2, frame.width - 1))];
    }
  }
  return sparse;
}

std::vector<std::vector<std::size_t>> measure_histogram(ConstView picture, int bins) {
  assert(bins > 0);
  std::vector<std::vector<std::size_t>> counts;
  for (int channel = 0; channel < picture.channels(); ++channel) {
    auto& own = counts.emplace_back(static_cast<std::size_t>(bins));
    for (int y = 0; y < picture.height(); ++y) {
      for (const float value : picture.row(channel, y)) {
        if (std::isnan(value)) continue;
        const float place = std::clamp(value, 0.0F, 1.0F) * static_cast<float>(bins);
        ++own[std::min(static_cast<std::size_t>(place), own.size() - 1)];
      }
    }
  }
  return counts;
}

Image show_differences(ConstView map, float full_scale) {
  assert(full_scale > 0);
  constexpr std::array<float, 3> none{0.11F, 0.11F, 0.11F}, above{1.0F, 0.42F, 0.30F},
      below{0.30F, 0.62F, 1.0F};
  Image picture(3, map.size());
  for (int y = 0; y < map.height(); ++y) {
    for (int x = 0; x < map.width(); ++x) {
      float most = 0;
      for (int channel = 0; channel < map.channels(); ++channel) {
        const float value = map(channel, y, x);
        if (std::abs(value) > std::abs(most)) most = value;  // never true of NaN
      }
      const float share = std::min(1.0F, std::abs(most) / full_scale);
      const auto& end = most > 0 ? above : below;
      for (int channel = 0; channel < 3; ++channel) {
        const auto c = static_cast<std::size_t>(channel);
        picture.view()(channel, y, x) = none[c] + share * (end[c] - none[c]);
      }
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
