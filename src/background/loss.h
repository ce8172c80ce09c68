// How badly a spline surface explains the sky, and how that changes with the surface.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include <limpid/image.h>

#include "background/spline.h"

namespace limpid::background {

inline constexpr int most_channels = 3;

/// The unmasked pixels of a downscaled, stretched frame, packed; what is masked costs nothing.
class Pixels {
 public:
  /// `frame`: (channels, height, width), NaN where there is no data. `mask`: (1, height, width),
  /// 0..1. Of every `step` rows and columns one is taken. Places are pixel / size, as in the
  /// source: the frame covers [0, 1).
  Pixels(ConstView frame, ConstView mask, int step);
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] int channels() const { return static_cast<int>(channels_); }

 private:
  friend class Loss;
  std::size_t count_ = 0, channels_ = 0;
  // all padded to whole vectors; `share_` is 1 for pixels and 0 for padding
  std::vector<float> x_, y_, mask_, share_;
  std::array<std::vector<float>, most_channels> values_;
};

struct LossValue {
  double loss = 0;
  WeightGradient gradient;
};

/// The mean over the pixels of
///
///     log(0.001 + mean|r| + var(r) + alpha (mean(|r| - r) + mean(|b| - b)))
///
/// r = mask (image - b), b the spline; mean and variance over the channels (seed 003; bgoptimizer).
/// A spline with one channel serves all channels of the pixels.
///
/// One pass gives value and gradient: all terms of a pixel are known once its b is, so the
/// derivative by b follows on the spot, and with phi still in the cache is added to the sums that
/// the weights and points wait for. Memory: one tile of pixels x points per thread.
class Loss {
 public:
  Loss(const Pixels& pixels, float alpha, int threads)
      : pixels_(pixels),
        alpha_(alpha),
        threads_(threads) {}
  [[nodiscard]] LossValue operator()(const SplinePoints& points,
                                     const SplineWeights& weights) const;

 private:
  const Pixels& pixels_;
  float alpha_;
  int threads_;
};

}  // namespace limpid::background
