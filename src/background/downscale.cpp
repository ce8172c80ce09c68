#include "background/downscale.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include <limpid/error.h>

#include "background/sky_stretch.h"
#include "core/lanes.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/coverage.h"

namespace limpid::background {
namespace {

/// Zeros are what registration leaves where no frame has data.
bool has_data(float pixel) { return std::isfinite(pixel) && pixel != 0; }

constexpr std::size_t sorted_count = 64;  // pixels of a block of eight by eight
using Sorted = std::array<FloatLanes, sorted_count>;

/// Pairs whose exchange in this order sorts 64 values: odd-even merge sort (Batcher 1968, Proc.
/// AFIPS 32, 307).
constexpr auto exchanges = [] {
  std::array<std::pair<std::uint8_t, std::uint8_t>, 543> pairs{};
  std::size_t at = 0;
  for (std::size_t merged = 1; merged < sorted_count; merged *= 2) {
    for (std::size_t apart = merged; apart > 0; apart /= 2) {
      for (std::size_t first = apart % merged; first + apart < sorted_count; first += 2 * apart) {
        for (std::size_t i = first; i < first + apart && i + apart < sorted_count; ++i) {
          if (i / (2 * merged) == (i + apart) / (2 * merged))
            pairs[at++] = {static_cast<std::uint8_t>(i), static_cast<std::uint8_t>(i + apart)};
        }
      }
    }
  }
  return pairs;
}();

/// Sorts the values of each lane.
void sort(Sorted& values) {
  for (const auto& [low, high] : exchanges) {
    const FloatLanes a = values[low], b = values[high];
    values[low] = a < b ? a : b;
    values[high] = a < b ? b : a;
  }
}

/// What median_in_place() gives for the first `count` values of a lane.
float median_of(const Sorted& sorted, std::size_t lane, std::size_t count) {
  const auto value = [&](std::size_t i) { return sorted[i][lane]; };
  const std::size_t below = (count - 1) / 2;
  if (count % 2 == 1) return value(below);
  return static_cast<float>(value(below) +
                            0.5 * (static_cast<double>(value(below + 1)) - value(below)));
}

/// Pixels with data of one block, stretched if that is asked for.
std::span<const float> samples_of(ConstView frame, int channel, const Coverage& coverage,
                                  Rect block, const SkyStretch* stretch, std::span<float> memory) {
  std::size_t count = 0;
  for (int y = block.y; y < block.y + block.height; ++y) {
    const auto row = frame.row(channel, y);
    for (int x = block.x; x < block.x + block.width; ++x) {
      const float pixel = row[static_cast<std::size_t>(x)];
      if (!has_data(pixel) || !coverage.covers(x, y)) continue;
      memory[count++] = stretch == nullptr ? pixel : stretched(*stretch, pixel);
    }
  }
  return memory.first(count);
}

/// Medians of up to eight blocks of at most 64 pixels, with their samples one below the other.
void medians(const std::function<std::span<const float>(int)>& samples_at, std::size_t enough,
             std::span<float> out) {
  Sorted values;
  values.fill(FloatLanes{} + std::numeric_limits<float>::infinity());
  std::array<std::size_t, float_lane_count> counts{};
  for (std::size_t lane = 0; lane < out.size(); ++lane) {
    const auto samples = samples_at(static_cast<int>(lane));
    counts[lane] = samples.size();
    for (std::size_t i = 0; i < samples.size(); ++i) values[i][lane] = samples[i];
  }
  sort(values);
  for (std::size_t lane = 0; lane < out.size(); ++lane) {
    out[lane] = counts[lane] >= enough ? median_of(values, lane, counts[lane])
                                       : std::numeric_limits<float>::quiet_NaN();
  }
}

/// Median or mean.
float value_of(std::span<float> samples, Downscaling how) {
  if (how == Downscaling::median) return median_in_place(samples);
  double sum = 0;
  for (const float sample : samples) sum += static_cast<double>(sample);
  return static_cast<float>(sum / static_cast<double>(samples.size()));
}

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
                      " has no data (zero, one or no number everywhere): no sky to model");
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
  const auto area = static_cast<std::size_t>(factor) * static_cast<std::size_t>(factor),
             enough = std::max<std::size_t>(1, (area + 1) / 2);
  Image small(frame.channels(), size);
  for (int c = 0; c < frame.channels(); ++c) {
    const Coverage coverage(frame.channel(c));
    const SkyStretch* own = stretch.empty() ? nullptr : &stretch[static_cast<std::size_t>(c)];
    parallel_for(size.height, threads, [&](int v) {
      std::vector<float> memory(area);
      const auto samples_at = [&](int u) {
        return samples_of(frame, c, coverage, {u * factor, v * factor, factor, factor}, own,
                          memory);
      };
      const auto row = small.view().row(c, v);
      if (how == Downscaling::median && area <= sorted_count) {
        for (int u = 0; u < size.width; u += float_lane_count) {
          const int count = std::min(float_lane_count, size.width - u);
          medians([&](int lane) { return samples_at(u + lane); }, enough,
                  row.subspan(static_cast<std::size_t>(u), static_cast<std::size_t>(count)));
        }
        return;
      }
      for (int u = 0; u < size.width; ++u) {
        const std::size_t count = samples_at(u).size();
        row[static_cast<std::size_t>(u)] = count >= enough
                                               ? value_of(std::span(memory).first(count), how)
                                               : std::numeric_limits<float>::quiet_NaN();
      }
    });
  }
  return small;
}

}  // namespace limpid::background
