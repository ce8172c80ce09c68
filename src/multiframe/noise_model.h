// What the residuals say of a frame's noise, and from it the weight of every pixel.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <complex>
#include <cstdint>
#include <span>

namespace limpid::multiframe {

/// Typical squared residual of a pixel with light s over the sky, in units of the sky's variance:
/// floor + shot s + (misfit s)^2, s in units of the sky's sigma. The last term is what the
/// prediction is off by: a star that is not yet as sharp as the frame's is no outlier.
struct NoiseModel {
  float floor = 1, shot = 0, misfit = 0.5F;
};

/// Histograms of squared residuals, one for every octave of light.
class ResidualStatistics {
 public:
  // eight bins an octave, from 2^-20 to 2^36
  static constexpr std::int32_t octaves = 20, bins = 448, first_bin = (127 - 20) << 3;
  /// Where a pixel counts; `light` and `residual` in units of the sky's sigma.
  static std::int32_t slot(float light, float residual) {
    const auto exponent = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(light) >> 23);
    // 2..4 is the first octave; what lies below all counts as sky
    const std::int32_t octave = std::min(std::max(exponent - 127, 0), octaves - 1);
    const auto bits =
        static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(residual * residual) >> 20);
    return octave * bins + std::min(std::max(bits - first_bin, 0), bins - 1);
  }
  /// Of a pixel without data.
  static constexpr std::int32_t nowhere = octaves * bins, slots = nowhere + 1;
  void add(std::span<const std::int32_t> found) {
    for (const std::int32_t slot : found) ++counts_[static_cast<std::size_t>(slot)];
  }
  void add(const ResidualStatistics& other);
  /// How many pixels each slot has.
  void add_counts(std::span<const std::int64_t> counts) {
    for (std::size_t i = 0; i < counts_.size(); ++i)
      counts_[i] += static_cast<std::uint32_t>(counts[i]);
  }
  /// Of what was added; `previous` where there was too little.
  [[nodiscard]] NoiseModel fit(const NoiseModel& previous) const;
  /// Robust sigma of the residuals on the sky; 0 without any.
  [[nodiscard]] float sky_sigma() const;

 private:
  /// Median of the squared residuals over that of a normal distribution's; 0 for too few.
  [[nodiscard]] float variance(int octave, std::uint32_t least) const;

  std::array<std::uint32_t, slots> counts_{};  ///< the last: pixels without data
};

/// How pixels weigh. All in matched units.
struct Weighting {
  bool huber = true;
  float delta = 2.5F;  ///< in typical residuals, or in matched units if `absolute`
  bool absolute = false;
  float reject_sigma = 6;   ///< 0: never
  bool shot_noise = false;  ///< variance maps: the variance grows with the light
  float pedestal = 0;
};

/// One row of a frame. `sigma`: of the sky, one for all or one per pixel. NaN in `observed` weighs
/// nothing. `window` may be empty.
struct RowInput {
  std::span<const float> observed, sigma, window;
  NoiseModel noise;
};
/// `weighed`: weight * observed and, as imaginary part, weight * predicted.
void weigh_row(const RowInput& input, const Weighting& weighting, std::span<const float> predicted,
               std::span<std::complex<float>> weighed);

/// How many pixels of a row weigh nothing although there is data, and how many less than in least
/// squares.
struct RowCounts {
  std::uint64_t pixels = 0, rejected = 0, softened = 0;
};
/// Adds one row, before it is weighed, to the statistics.
void observe_row(const RowInput& input, const Weighting& weighting,
                 std::span<const float> predicted, ResidualStatistics& statistics,
                 RowCounts& counts);

}  // namespace limpid::multiframe
