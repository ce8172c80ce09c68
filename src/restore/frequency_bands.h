// Bands of frequencies of equal transfer.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "core/fft_lines.h"

namespace limpid {

/// Transfers at which bands have their middle; shares fall to 0 at those beside it, linear in the
/// logarithm.
inline constexpr std::array<float, 4> band_middles{0.06F, 0.16F, 0.4F, 0.8F};
inline constexpr int band_count = static_cast<int>(band_middles.size());

/// Where each frequency of a transfer lies between the middles of the bands: 0 in the middle of the
/// first band and below it, 1 in that of the second, and so on.
class FrequencyBands {
 public:
  explicit FrequencyBands(const ComplexLines& transfer);
  [[nodiscard]] std::span<const float> places(int kx) const {
    return {&places_[static_cast<std::size_t>(kx) * height_], height_};
  }
  /// Which bands some frequency of a column belongs to.
  struct Present {
    int first, last;
  };
  [[nodiscard]] Present present(int kx) const { return present_[static_cast<std::size_t>(kx)]; }
  /// From this column on there is nothing of the band.
  [[nodiscard]] int filled(int band) const { return filled_[static_cast<std::size_t>(band)]; }

 private:
  std::size_t height_;
  std::vector<float> places_;
  std::vector<Present> present_;
  std::array<int, band_middles.size()> filled_{};
};

/// Shares of a band at these places, 1 in its middle.
template <typename Places>
Places share_of_band(int band, Places places) {
  const Places from_middle = places - static_cast<float>(band);
  const Places share = 1 - (from_middle < 0 ? -from_middle : from_middle);
  return share < 0 ? Places{} : share;
}

}  // namespace limpid
