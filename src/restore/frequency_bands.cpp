#include "restore/frequency_bands.h"

#include <algorithm>
#include <cmath>

#include "core/complex_lanes.h"

namespace limpid {
namespace {

using Logarithms = std::array<double, band_middles.size()>;

/// Natural logarithms of |T|^2 in the middles of the bands.
Logarithms logarithms_of_middles() {
  Logarithms logarithms{};
  std::ranges::transform(band_middles, logarithms.begin(),
                         [](float m) { return log_of(lanes_of(static_cast<double>(m * m)))[0]; });
  return logarithms;
}

/// Of four powers, each of which is there twice.
std::array<float, complex_lane_count> places_of(FloatLanes power, const Logarithms& logarithms) {
  constexpr float lowest = band_middles.front() * band_middles.front(),
                  highest = band_middles.back() * band_middles.back();
  if (power[0] <= lowest && power[2] <= lowest && power[4] <= lowest && power[6] <= lowest)
    return {};
  power = power < lowest ? FloatLanes{} + lowest : power;
  power = power > highest ? FloatLanes{} + highest : power;
  const Lanes logarithm = log_of(Lanes{power[0], power[2], power[4], power[6]});
  Lanes place{};
  for (std::size_t band = 1; band < band_middles.size(); ++band) {
    const double from = logarithms[band - 1], to = logarithms[band];
    Lanes part = (logarithm - from) / (to - from);
    part = part < 0.0 ? Lanes{} : part;
    place += part > 1.0 ? Lanes{} + 1.0 : part;
  }
  return {static_cast<float>(place[0]), static_cast<float>(place[1]), static_cast<float>(place[2]),
          static_cast<float>(place[3])};
}

}  // namespace

FrequencyBands::FrequencyBands(const ComplexLines& transfer)
    : height_(static_cast<std::size_t>(transfer.length())),
      places_(height_ * static_cast<std::size_t>(transfer.count())) {
  const auto logarithms = logarithms_of_middles();
  for (int kx = 0; kx < transfer.count(); ++kx) {
    const auto column = transfer.line(kx);
    float* const places = &places_[static_cast<std::size_t>(kx) * height_];
    float first = band_count - 1, last = 0;
    for (std::size_t ky = 0; ky < height_; ky += complex_lane_count) {
      const std::size_t count = std::min(complex_lane_count, height_ - ky);
      const auto found = places_of(powers(load_some(&column[ky], count)), logarithms);
      for (std::size_t i = 0; i < count; ++i) {
        places[ky + i] = found[i];
        first = std::min(first, found[i]);
        last = std::max(last, found[i]);
      }
    }
    present_.push_back({static_cast<int>(first), static_cast<int>(std::ceil(last))});
    for (int band = present_.back().first; band <= present_.back().last; ++band)
      filled_[static_cast<std::size_t>(band)] = kx + 1;
  }
}

}  // namespace limpid
