#include "core/statistics.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/lanes.h"

namespace limpid {
namespace {

constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

/// For each set of eight lanes: those in it, in order, then the others.
using Lane = std::int32_t;
using Order = Lane __attribute__((vector_size(float_lane_count * sizeof(Lane))));
constexpr std::size_t lane_sets = std::size_t{1} << float_lane_count;
constexpr std::array<std::array<Lane, float_lane_count>, lane_sets> make_orders() {
  std::array<std::array<Lane, float_lane_count>, lane_sets> orders{};
  for (std::size_t set = 0; set < lane_sets; ++set) {
    std::size_t next = 0;
    for (const bool wanted : {true, false}) {
      for (Lane lane = 0; lane < float_lane_count; ++lane) {
        if ((((set >> lane) & 1) != 0) == wanted) orders[set][next++] = lane;
      }
    }
  }
  return orders;
}
alignas(64) constexpr auto orders = make_orders();

/// Moves those that pass to the front, in their order. Returns how many. Eight at a time: what
/// passes is written over what has been read, what does not goes into `others` from its end on.
template <typename Passes>
std::size_t move_ahead(std::span<float> samples, std::vector<float>& others, const Passes& passes) {
  constexpr std::size_t lanes = float_lane_count;
  if (others.size() < samples.size() + lanes) others.resize(samples.size() + lanes);
  float* const end = others.data() + others.size();
  std::size_t ahead = 0, behind = 0, i = 0;
  for (; i + lanes <= samples.size(); i += lanes) {
    const FloatLanes values = load_floats(&samples[i]);
    const auto set =
        static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(passes(values))));
    Order order;
    std::memcpy(&order, orders[set].data(), sizeof order);
    const FloatLanes ordered = __builtin_shuffle(values, order);
    store_floats(&samples[ahead], ordered);
    store_floats(end - behind - lanes, ordered);
    const auto count = static_cast<std::size_t>(std::popcount(set));
    ahead += count;
    behind += lanes - count;
  }
  for (; i < samples.size(); ++i) {
    const float value = samples[i];
    const bool passed = passes(FloatLanes{value})[0] != 0;
    (passed ? samples[ahead++] : *(end - ++behind)) = value;
  }
  std::copy(end - behind, end, samples.begin() + static_cast<std::ptrdiff_t>(ahead));
  return ahead;
}

/// What of some of the samples has the rank that the n-th has of all.
float guess(std::span<const float> samples, std::size_t n) {
  std::array<float, 9> some{};
  for (std::size_t i = 0; i < some.size(); ++i)
    some[i] = samples[i * (samples.size() - 1) / (some.size() - 1)];
  std::ranges::sort(some);
  return some[n * some.size() / samples.size()];
}

/// std::nth_element() that does not wait for comparisons whose outcome no processor foresees, half
/// of its time and more.
void select(std::span<float> samples, std::size_t n) {
  constexpr std::size_t few = 60;
  constexpr int rounds = 40;  // each leaves some half, but of samples made to prevent that
  std::vector<float> others;
  for (int round = 0; round < rounds && samples.size() > few; ++round) {
    const float pivot = guess(samples, n);
    std::size_t lower = move_ahead(samples, others, [=](FloatLanes v) { return v < pivot; });
    if (n < lower) {
      samples = samples.first(lower);
      continue;
    }
    if (lower == 0) {
      lower = move_ahead(samples, others, [=](FloatLanes v) { return v == pivot; });
      if (n < lower) return;
    }
    samples = samples.subspan(lower);
    n -= lower;
  }
  std::nth_element(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(n),
                   samples.end());
}

/// Of at least one sample.
float lowest(std::span<const float> samples) {
  FloatLanes least = FloatLanes{} + samples[0];
  std::size_t i = 0;
  for (; i + float_lane_count <= samples.size(); i += float_lane_count) {
    FloatLanes some;
    std::memcpy(&some, &samples[i], sizeof some);
    least = some < least ? some : least;
  }
  float result = samples[0];
  for (int lane = 0; lane < float_lane_count; ++lane) result = std::min(result, least[lane]);
  for (; i < samples.size(); ++i) result = std::min(result, samples[i]);
  return result;
}

/// Of what `of` makes of each sample, four of them side by side: one sum waits for itself.
template <typename Of>
double sum_of(std::span<const float> samples, const Of& of) {
  Lanes sums{}, others{};
  std::size_t i = 0;
  for (; i + 2 * lane_count <= samples.size(); i += 2 * lane_count) {
    const FloatLanes some = load_floats(&samples[i]);
    sums += of(Lanes{some[0], some[1], some[2], some[3]});
    others += of(Lanes{some[4], some[5], some[6], some[7]});
  }
  sums += others;
  double sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (; i < samples.size(); ++i) sum += of(static_cast<double>(samples[i]));
  return sum;
}

}  // namespace

std::vector<float> without_nan(std::span<const float> samples) {
  std::vector<float> kept(samples.begin(), samples.end());
  std::vector<float> others;
  kept.resize(move_ahead(kept, others, [](FloatLanes v) { return v == v; }));
  return kept;
}

float quantile_in_place(std::span<float> samples, double q) {
  assert(q >= 0 && q <= 1);
  if (samples.empty()) return no_data;
  const double position = q * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  select(samples, below);
  const float value = samples[below];
  const double part = position - static_cast<double>(below);
  if (part == 0) return value;
  const float above = lowest(samples.subspan(below + 1));
  return static_cast<float>(value + part * (static_cast<double>(above) - value));
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
  std::vector<float> others;
  for (int i = 0; i <= options.max_iterations && !kept.empty(); ++i) {
    std::size_t removed = 0;
    if (i > 0) {
      const float low = result.median - options.low_sigma * sigma;
      const float high = result.median + options.high_sigma * sigma;
      const std::size_t left =
          move_ahead(kept, others, [=](FloatLanes v) { return ((v < low) | (v > high)) == 0; });
      removed = kept.size() - left;
      kept.resize(left);
      if (removed == 0 && i > 1) break;
    }
    const auto count = static_cast<double>(kept.size());
    const double mean = sum_of(kept, [](auto value) { return value; }) / count;
    const double squares =
        sum_of(kept, [=](auto value) { return (value - mean) * (value - mean); });
    result = {removed == 0 ? result.median : median_in_place(kept), static_cast<float>(mean),
              static_cast<float>(std::sqrt(squares / count)), kept.size()};
    if (i > 0) sigma = result.sigma;
  }
  return result;
}

}  // namespace limpid
