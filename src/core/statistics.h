// Robust statistics of samples. NaN means "no data" and is left out everywhere; of no data at all
// every statistic is NaN.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace limpid {

/// 1 / quantile(3/4) of the normal distribution: takes its median absolute deviation to sigma.
inline constexpr float sigma_per_mad = 1.482602F;

/// The samples that are not NaN.
std::vector<float> without_nan(std::span<const float> samples);

/// Of samples without NaN, of which there is at least one.
struct Range {
  float lowest = INFINITY, highest = -INFINITY;
  void add(Range other);
};
Range range_of(std::span<const float> samples);

/// Value below which the share `q` (0..1) of the samples lies, interpolated between neighbours.
float quantile(std::span<const float> samples, double q);
float median(std::span<const float> samples);
/// Of samples without NaN, which it may put into another order: no copy is made.
float quantile_in_place(std::span<float> samples, double q);
float median_in_place(std::span<float> samples);

/// Median absolute deviation from `centre`, not scaled.
float mad(std::span<const float> samples, float centre);

/// Median, and sigma_per_mad times the median absolute deviation from it.
struct Spread {
  float median, sigma;
};
Spread robust_spread(std::span<const float> samples);

struct ClipOptions {
  float low_sigma = 3, high_sigma = 3;  ///< samples further from the median are left out
  int max_iterations = 10;
};

/// Of the samples that survive the clipping.
struct Clipped {
  float median, mean, sigma;  ///< sigma: standard deviation, narrowed by the clipping itself
  std::size_t count = 0;
};
/// Leaves out outliers until no more are found. The first cut is made with robust_spread, since a
/// few bright stars would spoil a standard deviation.
Clipped sigma_clip(std::span<const float> samples, const ClipOptions& options = {});

}  // namespace limpid
