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

}  // namespace

void ResidualStatistics::add(const ResidualStatistics& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

float ResidualStatistics::variance(int octave, std::uint32_t least) const {
  const auto counts = std::span(counts_).subspan(static_cast<std::size_t>(octave * bins), bins);
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
void weigh_pixels(const RowInput& input, const Weighting& weighting,
                  std::span<const float> predicted, std::span<std::complex<float>> weighed) {
  const std::size_t count = predicted.size();
  const float* __restrict observed = input.observed.data();
  const float* __restrict sigmas = input.sigma.data();
  const float* __restrict prediction = predicted.data();
  float* __restrict out = reinterpret_cast<float*>(weighed.data());  // as the standard promises
  const NoiseModel noise = input.noise;
  // With 1 / pedestal, the photon noise of the pedestal's own light, the update is
  // Richardson-Lucy's, which keeps the sum of the light in every step; with less, stars grow before
  // their seed's wings have gone, and are too bright for dozens of iterations (3 % after 20).
  const float shot_weight =
      std::max(1 / weighting.pedestal, weighting.shot_noise ? noise.shot : 0.0F);
  const float delta2 = weighting.delta * weighting.delta, pedestal = weighting.pedestal;
  const float reject2 = weighting.reject_sigma > 0 ? weighting.reject_sigma * weighting.reject_sigma
                                                   : std::numeric_limits<float>::max();
  const float misfit2 = noise.misfit * noise.misfit;
  // measured levels of the noise may be off by nebulae; the residuals know better
  const float floor = std::clamp(noise.floor, 0.1F, 10.0F);
  for (std::size_t x = 0; x < count; ++x) {
    const float sigma = one_sigma ? sigmas[0] : sigmas[x];
    const float y = observed[x], p = prediction[x];
    const float light = std::max(p - pedestal, 0.0F);
    const float variance = floor * sigma * sigma;
    const float spread = variance + shot_weight * light * sigma + 1e-6F;
    float weight = 0;
    if constexpr (huber) {
      const float r2 = (y - p) * (y - p);
      const float typical2 =
          variance + noise.shot * light * sigma + misfit2 * light * light + 1e-12F;
      const float limit2 = absolute ? delta2 : delta2 * typical2;
      // sqrt(limit2 / max(r2, limit2)) / spread with one division
      const float soft = std::sqrt(limit2 / (std::max(r2, limit2) * (spread * spread)));
      weight = r2 > reject2 * typical2 ? 0.0F : soft;
    } else {
      weight = 1 / spread;
    }
    const bool known = y == y;  // not NaN
    out[2 * x] = known ? weight * y : 0.0F;
    out[2 * x + 1] = known ? weight * p : 0.0F;
  }
}

}  // namespace

void weigh_row(const RowInput& input, const Weighting& weighting, std::span<const float> predicted,
               std::span<std::complex<float>> weighed) {
  const auto weigh = [&](auto huber, auto absolute) {
    if (input.sigma.size() == 1) {
      weigh_pixels<huber(), absolute(), true>(input, weighting, predicted, weighed);
    } else {
      weigh_pixels<huber(), absolute(), false>(input, weighting, predicted, weighed);
    }
  };
  if (!weighting.huber) {
    weigh(std::false_type{}, std::false_type{});
  } else if (weighting.absolute) {
    weigh(std::true_type{}, std::true_type{});
  } else {
    weigh(std::true_type{}, std::false_type{});
  }
  for (std::size_t x = 0; x < input.window.size(); ++x) weighed[x] *= input.window[x];
}

namespace {

/// What observe_row does to some pixels of a row, eight at a time: finds where each of them counts.
template <bool one_sigma>
void observe_pixels(const RowInput& input, const Weighting& weighting,
                    std::span<const float> predicted, std::span<std::int32_t> slots,
                    RowCounts& counts) {
  const float* __restrict observed = input.observed.data();
  const float* __restrict sigmas = input.sigma.data();
  const float* __restrict prediction = predicted.data();
  std::int32_t* __restrict out = slots.data();
  const NoiseModel noise = input.noise;
  const float delta2 = weighting.delta * weighting.delta, pedestal = weighting.pedestal;
  const float share = weighting.absolute ? 0 : delta2, level = weighting.absolute ? delta2 : 0;
  const float reject2 = weighting.reject_sigma > 0 ? weighting.reject_sigma * weighting.reject_sigma
                                                   : std::numeric_limits<float>::max();
  std::int32_t pixels = 0, rejected = 0, off = 0;
  for (std::size_t x = 0; x < slots.size(); ++x) {
    const float sigma = one_sigma ? sigmas[0] : sigmas[x];
    const float y = observed[x], light = std::max(prediction[x] - pedestal, 0.0F);
    const float residual = y - prediction[x], r2 = residual * residual;
    const float typical2 = noise.floor * sigma * sigma + noise.shot * light * sigma +
                           noise.misfit * noise.misfit * light * light;
    const bool known = y == y;  // not NaN, which is over no limit
    out[x] = known ? ResidualStatistics::slot(light / sigma, residual / sigma)
                   : ResidualStatistics::nowhere;
    pixels += known ? 1 : 0;
    rejected += r2 > reject2 * typical2 ? 1 : 0;
    off += r2 > share * typical2 + level ? 1 : 0;
  }
  counts.pixels += static_cast<std::uint64_t>(pixels);
  if (!weighting.huber) return;
  counts.rejected += static_cast<std::uint64_t>(rejected);
  counts.softened += static_cast<std::uint64_t>(std::max(off - rejected, 0));
}

}  // namespace

void observe_row(const RowInput& input, const Weighting& weighting,
                 std::span<const float> predicted, ResidualStatistics& statistics,
                 RowCounts& counts) {
  std::array<std::int32_t, 256> slots;
  for (std::size_t first = 0; first < predicted.size(); first += slots.size()) {
    const std::size_t count = std::min(slots.size(), predicted.size() - first);
    const auto here = std::span(slots).first(count);
    RowInput part = input;
    part.observed = input.observed.subspan(first, count);
    if (input.sigma.size() == 1) {
      observe_pixels<true>(part, weighting, predicted.subspan(first, count), here, counts);
    } else {
      part.sigma = input.sigma.subspan(first, count);
      observe_pixels<false>(part, weighting, predicted.subspan(first, count), here, counts);
    }
    statistics.add(here);
  }
}

}  // namespace limpid::multiframe
