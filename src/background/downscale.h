// The small frame that the model is fitted to, and how its pixels are stretched.
#pragma once

#include <vector>

#include <limpid/background.h>
#include <limpid/image.h>

namespace limpid::background {

/// What a channel's pixels say about their distribution; zeros, NaN and borders are left out.
struct ChannelStatistics {
  float lowest = 0;  ///< not counting dead pixels further than 10 sigma below the median
  float median = 0;
  float white = 0;  ///< the asked quantile
};

/// Throws Error(bad_input) naming the channel when it has no data.
std::vector<ChannelStatistics> measure_channels(ConstView frame, double quantile, int threads);

/// Blocks of factor x factor pixels: the median, or the mean, of those with data; NaN where fewer
/// than half have any. With `stretch` (one per channel) pixels are stretched first. Rows and
/// columns that do not fill a block are left out.
Image downscale(ConstView frame, int factor, Downscaling how,
                const std::vector<SkyStretch>& stretch, int threads);

}  // namespace limpid::background
