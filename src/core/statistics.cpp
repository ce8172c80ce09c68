#include "core/statistics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace limpid {
namespace {

constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

}  // namespace

std::vector<float> without_nan(std::span<const float> samples) {
  std::vector<float> kept;
  kept.reserve(samples.size());
  std::ranges::copy_if(samples, std::back_inserter(kept), [](float v) { return !std::isnan(v); });
  return kept;
}

float quantile_in_place(std::span<float> samples, double q) {
  assert(q >= 0 && q <= 1);
  if (samples.empty()) return no_data;
  const double position = q * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(position);
  const auto nth = samples.begin() + below;
  std::nth_element(samples.begin(), nth, samples.end());
  const double part = position - static_cast<double>(below);
  if (part == 0) return *nth;
  const float above = *std::min_element(nth + 1, samples.end());
  return static_cast<float>(*nth + part * (static_cast<double>(above) - *nth));
}

float median_in_place(std::span<float> samples) { return quantile_in_place(samples, 0.5); }

float quantile(std::span<const float> samples, double q) {
  std::vector<float> kept = without_nan(samples);
  return quantile_in_place(kept, q);
}

float median(std::span<const float> samples) { return quantile(samples, 0.5); }

float mad(std::span<const float> samples, float centre) {
  std::vector<float> kept = without_nan(samples);
  for (float& value : kept) value = std::abs(value - centre);
  return median_in_place(kept);
}

Spread robust_spread(std::span<const float> samples) {
  std::vector<float> kept = without_nan(samples);
  const float centre = median_in_place(kept);
  for (float& value : kept) value = std::abs(value - centre);
  return {centre, sigma_per_mad * median_in_place(kept)};
}

Clipped sigma_clip(std::span<const float> samples, const ClipOptions& options) {
  std::vector<float> kept = without_nan(samples);
  auto [centre, sigma] = robust_spread(kept);
  Clipped result{centre, centre, sigma, kept.size()};
  for (int i = 0; i <= options.max_iterations && !kept.empty(); ++i) {
    if (i > 0) {
      const float low = result.median - options.low_sigma * sigma;
      const float high = result.median + options.high_sigma * sigma;
      const auto removed = std::erase_if(kept, [=](float v) { return v < low || v > high; });
      if (removed == 0 && i > 1) break;
    }
    double sum = 0;
    for (const float value : kept) sum += value;
    const double mean = sum / static_cast<double>(kept.size());
    double squares = 0;
    for (const float value : kept) squares += (value - mean) * (value - mean);
    result = {median_in_place(kept), static_cast<float>(mean),
              static_cast<float>(std::sqrt(squares / static_cast<double>(kept.size()))),
              kept.size()};
    if (i > 0) sigma = result.sigma;
  }
  return result;
}

}  // namespace limpid
