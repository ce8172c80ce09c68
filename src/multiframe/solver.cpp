#include "multiframe/solver.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <new>
#include <numeric>
#include <span>
#include <string>
#include <utility>

#include "core/parallel.h"
#include "multiframe/kernels.h"
#include "multiframe/stopwatch.h"
#include "multiframe/task.h"

namespace limpid::multiframe {
namespace {

using Clock = std::chrono::steady_clock;

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

Solver::Solver(FrameStream& stream, const MultiframeOptions& options,
               std::vector<std::vector<Image>> kernels, int reach,
               std::unique_ptr<Accelerator> accelerator)
    : stream_(stream),
      options_(options),
      kernels_(std::move(kernels)),
      reach_(reach),
      factor_(options.super_resolution),
      channels_(stream.channels()),
      hosts_(options.hosts),
      fine_{stream.size().width * factor_, stream.size().height * factor_},
      canvas_{fine_.width + 2 * reach, fine_.height + 2 * reach},
      accelerator_(std::move(accelerator)) {
  weighting_.huber = options.loss == Loss::huber;
  weighting_.absolute = options.huber_delta > 0;
  weighting_.delta = std::abs(options.huber_delta);
  weighting_.reject_sigma = options.reject_sigma;
  weighting_.shot_noise = options.variance_maps;
  weighting_.pedestal = stream.pedestal();
  const std::size_t slots = slot(stream.count() - 1, channels_ - 1) + 1;
  noise_.resize(slots);
  statistics_.resize(slots);
  counts_.resize(slots);
  make_plan();
}

Solver::~Solver() = default;

// ---- cutting up the work -----------------------------------------------------------------------

void Solver::make_plan() {
  int own = 0;
  for (int m = 0; m < stream_.count(); ++m) own += mine(m) ? 1 : 0;
  plan_ = plan_work({stream_.size(), canvas_, std::max(own, 1), channels_, factor_, reach_,
                     options_.psf_grid, tile_limit_, batch_limit_, options_.memory_bytes});
}

bool Solver::make_smaller() {
  transfers_.clear();
  tasks_.clear();
  memory_taken_ = false;
  const int side = std::max(plan_.transform.width, plan_.transform.height);
  if (plan_.frames_at_once > 1) {
    batch_limit_ = plan_.frames_at_once / 2;
  } else if (side > 4 * reach_ && side > 128) {
    tile_limit_ = 3 * side / 4;
  } else {
    return false;
  }
  try {
    make_plan();
  } catch (const Error&) {
    return false;
  }
  notes_.push_back("memory ran out: going on with " + std::to_string(plan_.frames_at_once) +
                   " frames at a time in tiles of " + std::to_string(plan_.transform.width) +
                   " px");
  return true;
}

/// On a device that has too little memory for a batch: half of it. Else the processor goes on, from
/// the same estimate.
void Solver::give_way(const DeviceFault& fault) {
  const std::string what = fault.what();
  if (fault.out_of_memory() && plan_.frames_at_once > 1) {
    accelerator_->forget();
    batch_limit_ = plan_.frames_at_once / 2;
    notes_.push_back(what + "; going on with " + std::to_string(batch_limit_) +
                     " frames at a time");
  } else {
    accelerator_.reset();
    batch_limit_ = 0;
    notes_.push_back(what + "; going on with the processor");
  }
  memory_taken_ = false;
  make_plan();
}

void Solver::take_memory() {
  if (options_.on_memory) options_.on_memory(plan_.frames_at_once, plan_.transform.width);
  if (memory_taken_) return;
  if (numerator_.empty()) {
    numerator_ = Image(channels_, canvas_);
    denominator_ = Image(channels_, canvas_);
  }
  if (plan_.keep_frames && !stream_.kept()) stream_.keep(hosts_, options_.threads);
  if (plan_.keep_transfers && !accelerator_) {
    transfers_.resize(kernels_.size());
    for (std::size_t cell = 0; cell < kernels_.size(); ++cell) {
      transfers_[cell].clear();
      for (std::size_t i = 0; i < kernels_[cell].size(); ++i) {
        const bool own = mine(static_cast<int>(i) / channels_);
        transfers_[cell].push_back(own ? scaled_transfer(kernels_[cell][i], plan_.transform)
                                       : ColumnSpectrum(0, plan_.transform));
      }
    }
  }
  memory_taken_ = true;
}

// ---- beginning, state --------------------------------------------------------------------------

void Solver::begin(const Image& seed) {
  const float level = weighting_.pedestal / static_cast<float>(factor_ * factor_);
  estimate_ = extract_mirrored(seed.view(), {-reach_, -reach_, canvas_.width, canvas_.height});
  for (float& value : estimate_.pixels())
    value = std::isfinite(value) ? std::max(value, 0.1F * level) : level;
  // where a star's light lies, a place under the sky is a ring and nothing else
  bright_ =
      BrightParts(estimate_.view(), level, stack_sigma() / static_cast<float>(factor_ * factor_));
}

float Solver::stack_sigma() const { return 1 / std::sqrt(static_cast<float>(stream_.count())); }

void Solver::resume(const Image& seed, const MultiframeState& state) {
  begin(seed);
  const std::size_t noise_values = 3 * noise_.size();
  if (state.estimate.size() != canvas_ || state.estimate.channels() != channels_ ||
      state.noise.size() != noise_values || state.history.size() % 4 != 0) {
    throw Error(ErrorKind::usage, "the checkpoint is of another set or other options");
  }
  estimate_ = state.estimate.clone();
  done_ = state.iteration;
  for (std::size_t i = 0; i < noise_.size(); ++i)
    noise_[i] = {state.noise[3 * i], state.noise[3 * i + 1], state.noise[3 * i + 2]};
  for (std::size_t i = 0; i + 3 < state.history.size(); i += 4) {
    history_.push_back({static_cast<int>(i / 4) + 1, state.history[i], state.history[i + 1],
                        state.history[i + 2], state.history[i + 3]});
    static_cast<void>(settle(history_.back()));
  }
}

MultiframeState Solver::state() const {
  MultiframeState state;
  state.iteration = done_;
  state.estimate = estimate_.clone();
  state.noise = shared_noise();
  for (const IterationSummary& summary : history_) {
    for (const double value : {summary.update, summary.change, summary.chi, summary.seconds})
      state.history.push_back(static_cast<float>(value));
  }
  return state;
}

std::vector<float> Solver::shared_noise() const {
  std::vector<float> values(3 * noise_.size());
  for (std::size_t i = 0; i < noise_.size(); ++i) {
    if (!mine(static_cast<int>(i) / channels_)) continue;
    values[3 * i] = noise_[i].floor;
    values[3 * i + 1] = noise_[i].shot;
    values[3 * i + 2] = noise_[i].misfit;
  }
  if (hosts_.count > 1) hosts_.sum(values);
  return values;
}

ConstView Solver::estimate() const {
  return estimate_.view().crop({reach_, reach_, fine_.width, fine_.height});
}

std::vector<std::string> Solver::take_notes() { return std::exchange(notes_, {}); }

void Solver::summarise(std::vector<FrameSummary>& frames, const std::vector<int>& indices) const {
  const auto members = static_cast<std::size_t>(stream_.count());
  std::vector<float> values(4 * members);
  for (std::size_t m = 0; m < members; ++m) {
    if (!mine(static_cast<int>(m))) continue;
    RowCounts sum;
    for (int c = 0; c < channels_; ++c) {
      const RowCounts& counts = counts_[slot(static_cast<int>(m), c)];
      sum.pixels += counts.pixels;
      sum.rejected += counts.rejected;
      sum.softened += counts.softened;
    }
    const auto pixels = static_cast<float>(std::max<std::uint64_t>(sum.pixels, 1));
    const float sigma = stream_.sigma(static_cast<int>(m), 0);
    values[4 * m] = static_cast<float>(sum.rejected) / pixels;
    values[4 * m + 1] = static_cast<float>(sum.softened) / pixels;
    values[4 * m + 2] = 1 / (sigma * sigma);
    values[4 * m + 3] = noise_[slot(static_cast<int>(m), 0)].misfit;
  }
  if (hosts_.count > 1) hosts_.sum(values);
  double total = 0;
  for (std::size_t m = 0; m < members; ++m) total += values[4 * m + 2];
  for (std::size_t m = 0; m < members; ++m) {
    FrameSummary& frame = frames[static_cast<std::size_t>(indices[m])];
    frame.rejected = values[4 * m];
    frame.softened = values[4 * m + 1];
    frame.weight = values[4 * m + 2] / total;
    frame.misfit = values[4 * m + 3];
  }
}

double Solver::transform_share() const {
  return busy_ns_ == 0 ? 0 : static_cast<double>(transform_ns_) / static_cast<double>(busy_ns_);
}
double Solver::transforms_per_frame() const {
  return frame_tasks_ == 0 ? 0
                           : static_cast<double>(transforms_) / static_cast<double>(frame_tasks_);
}

// ---- one iteration -----------------------------------------------------------------------------

void Solver::accumulate(const Progress& progress) {
  take_memory();
  parallel_for(canvas_.height, options_.threads, [&](int y) {
    const Stopwatch busy(busy_ns_);
    for (int c = 0; c < channels_; ++c) {
      std::ranges::fill(numerator_.view().row(c, y), 0.0F);
      std::ranges::fill(denominator_.view().row(c, y), 0.0F);
    }
  });
  std::ranges::fill(statistics_, ResidualStatistics{});
  std::ranges::fill(counts_, RowCounts{});
  for (std::size_t i = 0; i < plan_.tiles.size(); ++i) {
    if (accelerator_) {
      solve_tile_on_device(i, progress);
    } else {
      solve_tile(i, progress);
    }
  }
}

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

bool Solver::iterate(const Progress& progress) {
  const auto start = Clock::now();
  for (;;) {
    try {
      accumulate(progress);
      break;
    } catch (const DeviceFault& fault) {
      give_way(fault);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::exhausted || !make_smaller()) throw;
    } catch (const std::bad_alloc&) {
      if (!make_smaller())
        throw Error(ErrorKind::exhausted, "out of memory even for one frame in the smallest tiles");
    }
  }
  // after the retries: a host that fails is for its caller to tell the others of
  if (hosts_.count > 1) {
    hosts_.sum(numerator_.pixels());
    hosts_.sum(denominator_.pixels());
  }
  IterationSummary summary = update();
  summary.iteration = ++done_;
  summary.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  history_.push_back(summary);
  return !(settle(summary) && options_.early_stop);
}

}  // namespace limpid::multiframe
