#include "multiframe/seed.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "core/statistics.h"

namespace limpid::multiframe {
namespace {

/// Frames of different seeing differ by about this share of a star's light, which is no outlier.
constexpr float blur_share = 0.5F;
constexpr float clip_sigma = 3;
/// Frames whose median starts the running mean.
constexpr std::size_t bootstrap = 15;

/// The clipped running mean of one pixel's values (Welford 1962, Technometrics 4, 419), begun with
/// the values that agree with the median of the first frames. `sigma` are their noises.
float robust_mean(std::span<const float> values, std::span<const float> sigma, float pedestal,
                  std::vector<float>& scratch) {
  const std::size_t first = std::min(values.size(), bootstrap);
  scratch.assign(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(first));
  double mean = median_in_place(scratch);
  double squares = 0;
  std::size_t count = 0;
  const auto fits = [&](std::size_t i, double centre) {
    const double light = blur_share * std::max(centre - pedestal, 0.0);
    const double scatter = count > 3 ? squares / static_cast<double>(count - 1) : 0;
    const double variance = std::max<double>(sigma[i] * sigma[i], scatter) + light * light;
    return std::abs(values[i] - centre) <= clip_sigma * std::sqrt(variance);
  };
  const double start = mean;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!fits(i, i < first || count == 0 ? start : mean)) continue;
    ++count;
    if (count == 1) mean = 0;
    const double difference = values[i] - mean;
    mean += difference / static_cast<double>(count);
    squares += difference * (values[i] - mean);
  }
  return static_cast<float>(count == 0 ? start : mean);
}

/// Mean of the values within 3 standard deviations of their median, repeated until all are.
float clipped_mean(std::vector<float>& values) {
  for (;;) {
    const float centre = median_in_place(values);
    double sum = 0, squares = 0;
    for (const float value : values) {
      sum += value;
      squares += static_cast<double>(value - centre) * (value - centre);
    }
    const auto count = static_cast<double>(values.size());
    const double limit = clip_sigma * std::sqrt(squares / std::max(count - 1, 1.0));
    const auto dropped =
        std::erase_if(values, [=](float value) { return std::abs(value - centre) > limit; });
    if (dropped == 0 || values.size() < 3) return static_cast<float>(sum / count);
  }
}

/// One row of the stack, from the same row of all members.
void stack_row(const std::vector<Image>& rows, std::span<const float> sigmas, int channel, int y,
               Stack kind, float pedestal, std::span<float> out) {
  std::vector<float> values, sigma, scratch;
  for (std::size_t x = 0; x < out.size(); ++x) {
    values.clear();
    sigma.clear();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float value = rows[i].view()(channel, y, static_cast<int>(x));
      if (std::isnan(value)) continue;
      values.push_back(value);
      sigma.push_back(sigmas[i]);
    }
    if (values.empty()) {
      out[x] = std::numeric_limits<float>::quiet_NaN();
    } else if (kind == Stack::median) {
      out[x] = median_in_place(values);
    } else if (kind == Stack::mean) {
      double sum = 0;
      for (const float value : values) sum += value;
      out[x] = static_cast<float>(sum / static_cast<double>(values.size()));
    } else if (kind == Stack::clipped) {
      out[x] = clipped_mean(values);
    } else {
      out[x] = robust_mean(values, sigma, pedestal, scratch);
    }
  }
}

}  // namespace

Image stack(const FrameStream& stream, Stack kind, std::size_t band_bytes, const Hosts& hosts,
            int threads, const Progress& progress) {
  const Size size = stream.size();
  const int channels = stream.channels(), count = stream.count();
  Image result(channels, size);
  const std::size_t row_bytes = sizeof(float) * static_cast<std::size_t>(size.width) *
                                static_cast<std::size_t>(channels) *
                                static_cast<std::size_t>(count);
  const int rows = static_cast<int>(
      std::clamp<std::size_t>(band_bytes / row_bytes, 1, static_cast<std::size_t>(size.height)));
  const int bands = (size.height + rows - 1) / rows;
  std::vector<LostFrame> lost;
  for (int band = hosts.rank; band < bands; band += hosts.count) {
    progress.throw_if_stopped();
    progress(static_cast<double>(band) / bands, "seed");
    const int y0 = band * rows, height = std::min(rows, size.height - y0);
    std::vector<Image> parts(static_cast<std::size_t>(count));
    try {
      parallel_for(count, threads, [&](int i) {
        parts[static_cast<std::size_t>(i)] = stream.load_all(i, {0, y0, size.width, height});
      });
    } catch (const FrameLost& fault) {
      lost = stream.lost_with(fault.frame());
      break;
    }
    parallel_for(height, threads, [&](int y) {
      for (int c = 0; c < channels; ++c) {
        std::vector<float> sigmas(static_cast<std::size_t>(count));
        for (int i = 0; i < count; ++i) sigmas[static_cast<std::size_t>(i)] = stream.sigma(i, c);
        stack_row(parts, sigmas, c, y, kind, stream.pedestal(), result.view().row(c, y0 + y));
      }
    });
  }
  share_losses(lost, stream.input_count(), hosts);
  if (hosts.count > 1) hosts.sum(result.pixels());
  return result;
}

}  // namespace limpid::multiframe
