#include "background/downscale.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <limpid/error.h>

#include "background/sky_stretch.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/sky.h"

namespace limpid::background {
namespace {

/// Zeros are what registration leaves where no frame has data.
bool has_data(float pixel) { return std::isfinite(pixel) && pixel != 0; }

}  // namespace

std::vector<ChannelStatistics> measure_channels(ConstView frame, double quantile, int threads) {
  // a million samples settle a quantile to a thousandth
  const int step =
      std::max(1, static_cast<int>(std::sqrt(static_cast<double>(frame.size().pixels()) / 1e6)));
  std::vector<ChannelStatistics> result(static_cast<std::size_t>(frame.channels()));
  parallel_for(frame.channels(), threads, [&](int c) {
    const Coverage coverage(frame.channel(c));
    std::vector<float> samples;
    for (int y = 0; y < frame.height(); y += step) {
      const auto row = frame.row(c, y);
      for (int x = 0; x < frame.width(); x += step) {
        const float pixel = row[static_cast<std::size_t>(x)];
        if (has_data(pixel) && coverage.covers(x, y)) samples.push_back(pixel);
      }
    }
    if (samples.size() < 16) {
      throw Error(ErrorKind::bad_input,
                  "channel " + std::to_string(c + 1) + " of " + std::to_string(frame.channels()) +
                      " has no data (zero or NaN everywhere): no sky to model");
    }
    const Spread spread = robust_spread(samples);
    ChannelStatistics& found = result[static_cast<std::size_t>(c)];
    found.median = spread.median;
    found.white = quantile_in_place(samples, quantile);
    const float floor = spread.median - 10 * spread.sigma;
    found.lowest = spread.median;
    for (const float value : samples) {
      if (value >= floor) found.lowest = std::min(found.lowest, value);
    }
  });
  return result;
}

Image downscale(ConstView frame, int factor, Downscaling how,
                const std::vector<SkyStretch>& stretch, int threads) {
  const Size size{frame.width() / factor, frame.height() / factor};
  const auto side = static_cast<std::size_t>(factor);
  Image small(frame.channels(), size);
  for (int c = 0; c < frame.channels(); ++c) {
    const Coverage coverage(frame.channel(c));
    parallel_for(size.height, threads, [&](int v) {
      std::vector<float> samples(side * side);
      for (int u = 0; u < size.width; ++u) {
        std::size_t count = 0;
        for (int y = v * factor; y < (v + 1) * factor; ++y) {
          const auto row = frame.row(c, y);
          for (int x = u * factor; x < (u + 1) * factor; ++x) {
            const float pixel = row[static_cast<std::size_t>(x)];
            if (!has_data(pixel) || !coverage.covers(x, y)) continue;
            samples[count++] =
                stretch.empty() ? pixel : stretched(stretch[static_cast<std::size_t>(c)], pixel);
          }
        }
        const std::span<float> found(samples.data(), count);
        float value = std::numeric_limits<float>::quiet_NaN();
        if (count > 0 && 2 * count >= samples.size()) {
          if (how == Downscaling::median) {
            value = median_in_place(found);
          } else {
            double sum = 0;
            for (const float sample : found) sum += static_cast<double>(sample);
            value = static_cast<float>(sum / static_cast<double>(count));
          }
        }
        small.view()(c, v, u) = value;
      }
    });
  }
  return small;
}

}  // namespace limpid::background
