// The end of an iteration: the estimate is multiplied, rings are lifted, and what changed is told.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "core/parallel.h"
#include "multiframe/solver.h"
#include "multiframe/stopwatch.h"
#include "multiframe/task.h"

namespace limpid::multiframe {
namespace {

/// How a pixel is changed; formulas in docs/method.md.
struct Step {
  float epsilon, kappa, relax;
};

/// Multiplies `values` by their factors; what they were is left in `numerator`.
void multiply_row(const Step& step, std::span<float> numerator, std::span<const float> denominator,
                  std::span<float> values) {
  float* __restrict above = numerator.data();
  const float* __restrict below = denominator.data();
  float* __restrict value = values.data();
  const float least = 1 / step.kappa, most = step.kappa, epsilon = step.epsilon;
  for (std::size_t x = 0; x < values.size(); ++x) {
    const float ratio = (above[x] + epsilon) / (std::max(below[x], 0.0F) + epsilon);
    above[x] = value[x];
    value[x] *= 1 + step.relax * (std::min(std::max(ratio, least), most) - 1);
  }
}

/// Sums over the pixels with light over the sky; `sky` over all. In eight sums side by side, which
/// the processor adds at once.
struct Changes {
  double light = 0, updates = 0, changes = 0, sky = 0;
};
Changes changes_of(std::span<const float> values, std::span<const float> old_values, float level,
                   float seen) {
  constexpr std::size_t lanes = 8;
  std::array<float, lanes> light{}, updates{}, changes{}, sky{};
  const auto add = [&](std::size_t i, std::size_t x) {
    const float old = old_values[x], over = old - level, change = std::abs(values[x] - old);
    const float counted = over < seen ? 0.0F : 1.0F, share = change / old;
    light[i] += counted * over;
    updates[i] += counted * over * share;
    changes[i] += counted * change;
    sky[i] += share;
  };
  std::size_t x = 0;
  for (; x + lanes <= values.size(); x += lanes) {
    for (std::size_t i = 0; i < lanes; ++i) add(i, x + i);
  }
  for (; x < values.size(); ++x) add(0, x);
  const auto sum = [](const auto& sums) { return std::accumulate(sums.begin(), sums.end(), 0.0); };
  return {sum(light), sum(updates), sum(changes), sum(sky)};
}

}  // namespace

/// The estimate before is left in the numerator.
void Solver::multiply_estimate() {
  for (int c = 0; c < channels_; ++c) {
    double weight = 0;
    for (int m = 0; m < stream_.count(); ++m) weight += std::pow(stream_.sigma(m, c), -2);
    // Where hardly any data say something the factor goes to one; elsewhere this changes nothing
    // but the speed, since numerator and denominator are equal at the solution.
    const auto epsilon = static_cast<float>(1e-3 * weighting_.pedestal * weight);
    parallel_for(canvas_.height, options_.threads, [&](int y) {
      const Stopwatch busy(busy_ns_);
      multiply_row({epsilon, options_.kappa, options_.relax}, numerator_.view().row(c, y),
                   denominator_.view().row(c, y), estimate_.view().row(c, y));
    });
  }
}

void Solver::measure_change(float level, float seen, IterationSummary& summary) {
  Changes all;
  for (int c = 0; c < channels_; ++c) {
    std::vector<Changes> rows(static_cast<std::size_t>(fine_.height));
    parallel_for(fine_.height, options_.threads, [&](int y) {
      const Stopwatch busy(busy_ns_);
      const auto inner = [&](const Image& image) {
        return image.view()
            .row(c, reach_ + y)
            .subspan(static_cast<std::size_t>(reach_), static_cast<std::size_t>(fine_.width));
      };
      rows[static_cast<std::size_t>(y)] =
          changes_of(inner(estimate_), inner(numerator_), level, seen);
    });
    for (const Changes& row : rows) {
      all.light += row.light;
      all.updates += row.updates;
      all.changes += row.changes;
      all.sky += row.sky;
    }
  }
  const double pixels = static_cast<double>(fine_.pixels()) * channels_;
  summary.update = (all.light > 0 ? all.updates / all.light : all.sky / pixels) /
                   static_cast<double>(options_.relax);
  summary.change = all.light > 0 ? all.changes / all.light : summary.update;
}

IterationSummary Solver::update() {
  IterationSummary summary;
  const auto blocks = static_cast<float>(factor_ * factor_);
  const float level = weighting_.pedestal / blocks;
  multiply_estimate();
  {
    // of the stack: a ring that is lost in the noise of the result
    constexpr float darkest_sigmas = 0.5F;
    const Stopwatch busy(busy_ns_);
    bright_.lift(estimate_.view(), level - darkest_sigmas * stack_sigma() / blocks, level,
                 !options_.star_masks, options_.threads);
  }
  measure_change(level, 5 / blocks, summary);
  std::vector<float> chi(2);
  for (int m = 0; m < stream_.count(); ++m) {
    if (!mine(m)) continue;
    for (int c = 0; c < channels_; ++c) {
      const std::size_t at = slot(m, c);
      chi[0] += statistics_[at].sky_sigma();
      chi[1] += 1;
      noise_[at] = statistics_[at].fit(noise_[at]);
    }
  }
  if (hosts_.count > 1) hosts_.sum(chi);
  summary.chi = chi[0] / std::max(chi[1], 1.0F);
  // rounded as a checkpoint keeps them, so that a resumed run decides alike
  summary.update = static_cast<float>(summary.update);
  summary.change = static_cast<float>(summary.change);
  return summary;
}

bool Solver::settle(const IterationSummary& summary) {
  // Moving averages over about three iterations, of what happens to the light: the sky is right
  // long before the stars are.
  constexpr double share = 0.5, still = 2e-3;
  const auto smooth = [](double& value, double now) { value = (1 - share) * value + share * now; };
  smooth(smooth_update_, summary.update);
  smooth(smooth_change_, summary.change);
  settled_ = smooth_update_ < still && smooth_change_ < still ? settled_ + 1 : 0;
  return settled_ >= 2 && summary.iteration >= options_.min_iterations;
}

}  // namespace limpid::multiframe
