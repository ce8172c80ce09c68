#include "multiframe/solver.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>
#include <span>
#include <string>
#include <utility>

#include "core/parallel.h"
#include "multiframe/kernels.h"
#include "multiframe/stack_sky.h"
#include "multiframe/stopwatch.h"
#include "multiframe/task.h"

namespace limpid::multiframe {
namespace {

using Clock = std::chrono::steady_clock;

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
  if (numerator_.empty()) {
    numerator_ = Image(channels_, canvas_);
    denominator_ = Image(channels_, canvas_);
  }
  if (memory_taken_) return;
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

std::unique_ptr<Accelerator> Solver::take_accelerator() {
  if (accelerator_) accelerator_->forget();  // slots are of this solver's members
  return std::move(accelerator_);
}

// ---- beginning, state --------------------------------------------------------------------------

void Solver::begin(Image seed) {
  const auto blocks = static_cast<float>(factor_ * factor_);
  const float level = weighting_.pedestal / blocks;
  seed_ = std::move(seed);
  estimate_ = extract_mirrored(seed_.view(), {-reach_, -reach_, canvas_.width, canvas_.height});
  for (float& value : estimate_.pixels())
    value = std::isfinite(value) ? std::max(value, 0.1F * level) : level;
  // where a star's light lies, a place under the sky is a ring and nothing else
  bright_ = BrightParts(estimate_.view(), level, stack_sigma() / blocks);
  mean_kernels_ = mean_kernels();
}

/// All hosts take part.
std::vector<Image> Solver::mean_kernels() const {
  const int side = 2 * reach_ + 1;
  std::vector<Image> means;
  for (const auto& kernels : kernels_) {
    for (int c = 0; c < channels_; ++c) {
      Image& mean = means.emplace_back(1, Size{side, side});
      for (int m = 0; m < stream_.count(); ++m) {
        if (!mine(m)) continue;
        const auto kernel = kernels[slot(m, c)].pixels();
        for (std::size_t i = 0; i < kernel.size(); ++i)
          mean.pixels()[i] += kernel[i] / static_cast<float>(stream_.count());
      }
      if (hosts_.count > 1) hosts_.sum(mean.pixels());
    }
  }
  return means;
}

float Solver::stack_sigma() const { return 1 / std::sqrt(static_cast<float>(stream_.count())); }

void Solver::resume(Image seed, const MultiframeState& state) {
  begin(std::move(seed));
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

Image Solver::result() {
  tasks_.clear();
  numerator_ = {};
  denominator_ = {};
  const std::size_t beside = plan_.bytes - plan_.work_bytes;
  const std::size_t memory = options_.memory_bytes - std::min(options_.memory_bytes, beside);
  const auto blocks = static_cast<float>(factor_ * factor_);
  return with_sky_of_stack({.estimate = estimate_.view(),
                            .stack = seed_.view(),
                            .reach = reach_,
                            .factor = factor_,
                            .level = weighting_.pedestal / blocks,
                            .sigma = stack_sigma() / blocks,
                            .relax = options_.relax,
                            .iterations = done_,
                            .kernels = &mean_kernels_,
                            .grid = options_.psf_grid},
                           !options_.star_masks, options_.threads, memory, hosts_);
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

bool Solver::iterate(const Progress& progress) {
  const auto start = Clock::now();
  std::vector<LostFrame> lost;
  for (;;) {
    try {
      accumulate(progress);
      break;
    } catch (const FrameLost& fault) {
      lost = stream_.lost_with(fault.frame());
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
  // Of a frame that is lost the sums may have a part; nothing has come of them yet.
  share_losses(lost, stream_.input_count(), hosts_);
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
