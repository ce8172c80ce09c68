#include "train/interval.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace limpid {
namespace {

constexpr int draws = 1000;

double middle(std::vector<double>& values) {
  if (values.empty()) return NAN;
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, at);
  return *at;
}

template <typename Statistic>
Estimate bootstrap(std::size_t scenes, const Statistic& statistic) {
  std::vector<std::size_t> chosen(scenes);
  for (std::size_t i = 0; i < scenes; ++i) chosen[i] = i;
  Estimate result{statistic(chosen), NAN, NAN};
  if (scenes < 3) return result;
  Random random(95);
  std::vector<double> values;
  for (int k = 0; k < draws; ++k) {
    for (std::size_t& scene : chosen)
      scene = static_cast<std::size_t>(random.index(static_cast<int>(scenes)));
    const double value = statistic(chosen);
    if (std::isfinite(value)) values.push_back(value);
  }
  if (values.size() < draws / 2) return result;
  std::ranges::sort(values);
  const auto at = [&](double share) {
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
  };
  result.low = at(0.025);
  result.high = at(0.975);
  return result;
}

/// Probability of at most `count` where `mean` are expected.
double at_most(int count, double mean) {
  double term = std::exp(-mean), sum = term;
  for (int k = 1; k <= count; ++k) sum += term *= mean / k;
  return sum;
}

/// The mean at which at_most() has come down to `share`.
double mean_where(int count, double share) {
  double low = 0, high = 10.0 * count + 20;
  for (int i = 0; i < 60; ++i) {
    const double half = 0.5 * (low + high);
    (at_most(count, half) > share ? low : high) = half;
  }
  return low;
}

}  // namespace

Estimate median_of(const std::vector<std::vector<double>>& scenes) {
  return bootstrap(scenes.size(), [&](const std::vector<std::size_t>& chosen) {
    std::vector<double> all;
    for (const std::size_t i : chosen)
      std::ranges::copy_if(scenes[i], std::back_inserter(all),
                           [](double v) { return std::isfinite(v); });
    return middle(all);
  });
}

Estimate mean_of(const std::vector<double>& scenes) {
  return bootstrap(scenes.size(), [&](const std::vector<std::size_t>& chosen) {
    double sum = 0;
    for (const std::size_t i : chosen) sum += scenes[i];
    return sum / static_cast<double>(chosen.size());
  });
}

Estimate counted(int count, double scale) {
  return {scale * count, count == 0 ? 0 : scale * mean_where(count - 1, 0.975),
          scale * mean_where(count, 0.025)};
}

}  // namespace limpid
