#include "multiframe/noise_model.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/statistics.h"

namespace limpid::multiframe {
namespace {

/// Of the squares of normal samples: (0.6745)^2.
constexpr float median_of_squares = 1 / (sigma_per_mad * sigma_per_mad);

/// Squared typical residual in matched units; `variance` is the sky's.
float typical_square(const NoiseModel& noise, float variance, float light) {
  const float sigma = std::sqrt(variance);
  return noise.floor * variance + noise.shot * light * sigma + noise.misfit * noise.misfit * light * light;
}

}  // namespace

void ResidualStatistics::add(const ResidualStatistics& other) {
  for (std::size_t o = 0; o < counts_.size(); ++o) {
    for (std::size_t b = 0; b < counts_[o].size(); ++b) counts_[o][b] += other.counts_[o][b];
  }
}

float ResidualStatistics::variance(int octave, std::uint32_t least) const {
  const auto& counts = counts_[static_cast<std::size_t>(octave)];
  std::uint64_t total = 0;
  for (const std::uint32_t count : counts) total += count;
  if (total < least) return 0;
  const double half = 0.5 * static_cast<double>(total);
  double below = 0;
  for (int bin = 0; bin < bins; ++bin) {
    const double here = counts[static_cast<std::size_t>(bin)];
    if (below + here >= half) {
      const auto edge = [](int b) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(b + first_bin) << 20);
      };
      const auto part = static_cast<float>((half - below) / here);
      return (edge(bin) + part * (edge(bin + 1) - edge(bin))) / median_of_squares;
    }
    below += here;
  }
  return 0;
}

float ResidualStatistics::sky_sigma() const { return std::sqrt(variance(0, 1)); }

NoiseModel ResidualStatistics::fit(const NoiseModel& previous) const {
  constexpr std::uint32_t enough_sky = 200, enough_light = 20;
  NoiseModel model = previous;
  const float sky = variance(0, enough_sky);
  if (sky > 0) model.floor = sky;
  std::vector<float> light, excess, slopes;
  for (int octave = 1; octave < octaves; ++octave) {
    const float found = variance(octave, enough_light);
    if (found <= 0) continue;
    light.push_back(1.5F * std::ldexp(1.0F, octave));
    excess.push_back(std::max(found - model.floor, 0.0F));
    slopes.push_back(excess.back() / light.back());
  }
  if (light.empty()) return model;
  // Photon noise grows with the light, what the prediction is off by with its square: the lower
  // slopes are the photons'.
  model.shot = quantile(slopes, 0.25);
  float most = 0;
  for (std::size_t i = 0; i < light.size(); ++i) {
    if (light[i] < 8) continue;  // faint light tells of the noise, not of the prediction
    most = std::max(most, (excess[i] - model.shot * light[i]) / (light[i] * light[i]));
  }
  model.misfit = std::clamp(std::sqrt(most), 0.01F, 1.0F);
  return model;
}

namespace {

/// What weigh_row does to one row; everything that is the same for all its pixels is a type, so
/// that the loop has no branches and runs on eight pixels at a time.
template <bool huber, bool absolute, bool one_sigma>
void weigh_pixels(const RowInput& input, const Weighting& weighting, std::span<float> predicted,
                  std::span<float> weighted_observed) {
  const std::size_t count = predicted.size();
  const float* __restrict observed = input.observed.data();
  const float* __restrict sigmas = input.sigma.data();
  float* __restrict prediction = predicted.data();
  float* __restrict out = weighted_observed.data();
  const NoiseModel noise = input.noise;
  // With 1 / pedestal, the photon noise of the pedestal's own light, the update is Richardson-Lucy's,
  // which keeps the sum of the light in every step; with less, stars grow before their seed's wings
  // have gone, and are too bright for dozens of iterations (3 % after 20).
  const float shot_weight =
      std::max(1 / weighting.pedestal, weighting.shot_noise ? noise.shot : 0.0F);
  const float delta2 = weighting.delta * weighting.delta, pedestal = weighting.pedestal;
  const float reject2 = weighting.reject_sigma > 0
                            ? weighting.reject_sigma * weighting.reject_sigma
                            : std::numeric_limits<float>::max();
  const float misfit2 = noise.misfit * noise.misfit;
  // measured levels of the noise may be off by nebulae; the residuals know better
  const float floor = std::clamp(noise.floor, 0.1F, 10.0F);
  for (std::size_t x = 0; x < count; ++x) {
    const float sigma = one_sigma ? sigmas[0] : sigmas[x];
    const float y = observed[x], p = prediction[x];
    const float light = std::max(p - pedestal, 0.0F);
    const float variance = floor * sigma * sigma;
    float weight = 1 / (variance + shot_weight * light * sigma + 1e-6F);
    if constexpr (huber) {
      const float r2 = (y - p) * (y - p);
      const float typical2 =
          variance + noise.shot * light * sigma + misfit2 * light * light + 1e-12F;
      const float limit2 = absolute ? delta2 : delta2 * typical2;
      const float soft = weight * std::sqrt(limit2 / std::max(r2, limit2));
      weight = r2 > reject2 * typical2 ? 0.0F : soft;
    }
    const bool known = y == y;  // not NaN
    out[x] = known ? weight * y : 0.0F;
    prediction[x] = known ? weight * p : 0.0F;
  }
}

}  // namespace

void weigh_row(const RowInput& input, const Weighting& weighting, std::span<float> predicted,
               std::span<float> weighted_observed) {
  const auto weigh = [&](auto huber, auto absolute) {
    if (input.sigma.size() == 1) {
      weigh_pixels<huber(), absolute(), true>(input, weighting, predicted, weighted_observed);
    } else {
      weigh_pixels<huber(), absolute(), false>(input, weighting, predicted, weighted_observed);
    }
  };
  if (!weighting.huber) {
    weigh(std::false_type{}, std::false_type{});
  } else if (weighting.absolute) {
    weigh(std::true_type{}, std::true_type{});
  } else {
    weigh(std::true_type{}, std::false_type{});
  }
  for (std::size_t x = 0; x < input.window.size(); ++x) {
    predicted[x] *= input.window[x];
    weighted_observed[x] *= input.window[x];
  }
}

void observe_row(const RowInput& input, const Weighting& weighting, std::span<const float> predicted,
                 ResidualStatistics& statistics, RowCounts& counts) {
  for (std::size_t x = 0; x < predicted.size(); ++x) {
    const float y = input.observed[x], p = predicted[x];
    if (std::isnan(y)) continue;
    const float sigma = input.sigma.size() == 1 ? input.sigma[0] : input.sigma[x];
    const float light = std::max(p - weighting.pedestal, 0.0F);
    const float residual = y - p;
    statistics.add(light / sigma, residual / sigma);
    ++counts.pixels;
    if (!weighting.huber) continue;
    const float typical = std::sqrt(typical_square(input.noise, sigma * sigma, light));
    const float limit = weighting.absolute ? weighting.delta : weighting.delta * typical;
    if (weighting.reject_sigma > 0 && std::abs(residual) > weighting.reject_sigma * typical) {
      ++counts.rejected;
    } else if (std::abs(residual) > limit) {
      ++counts.softened;
    }
  }
}

}  // namespace limpid::multiframe
