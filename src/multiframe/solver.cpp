#include "multiframe/solver.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "core/parallel.h"

namespace limpid::multiframe {
namespace {

using Clock = std::chrono::steady_clock;

/// Adds this thread's processor time until its end.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<std::uint64_t>& total) : total_(&total), start_(now()) {}
  ~Stopwatch() { total_->fetch_add(now() - start_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  static std::uint64_t now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1000000000U +
           static_cast<std::uint64_t>(time.tv_nsec);
  }
  std::atomic<std::uint64_t>* total_;
  std::uint64_t start_;
};

/// product = a b; sums += a conj(kernel) for two at once. Written out: std::complex checks for
/// infinities.
void multiply(std::span<const std::complex<float>> a, std::span<const std::complex<float>> b,
              std::span<std::complex<float>> product) {
  const auto* __restrict p = reinterpret_cast<const float*>(a.data());
  const auto* __restrict q = reinterpret_cast<const float*>(b.data());
  auto* __restrict out = reinterpret_cast<float*>(product.data());
  for (std::size_t i = 0; i < 2 * a.size(); i += 2) {
    const float real = p[i] * q[i] - p[i + 1] * q[i + 1];
    const float imaginary = p[i] * q[i + 1] + p[i + 1] * q[i];
    out[i] = real;
    out[i + 1] = imaginary;
  }
}
void add_correlations(std::span<const std::complex<float>> first,
                      std::span<const std::complex<float>> second,
                      std::span<const std::complex<float>> kernel,
                      std::span<std::complex<float>> first_sum,
                      std::span<std::complex<float>> second_sum) {
  const auto* __restrict a = reinterpret_cast<const float*>(first.data());
  const auto* __restrict b = reinterpret_cast<const float*>(second.data());
  const auto* __restrict k = reinterpret_cast<const float*>(kernel.data());
  auto* __restrict a_sum = reinterpret_cast<float*>(first_sum.data());
  auto* __restrict b_sum = reinterpret_cast<float*>(second_sum.data());
  for (std::size_t i = 0; i < 2 * kernel.size(); i += 2) {
    a_sum[i] += a[i] * k[i] + a[i + 1] * k[i + 1];
    a_sum[i + 1] += a[i + 1] * k[i] - a[i] * k[i + 1];
    b_sum[i] += b[i] * k[i] + b[i + 1] * k[i + 1];
    b_sum[i + 1] += b[i + 1] * k[i] - b[i] * k[i + 1];
  }
}

/// Share of a cell's fade that has come at t in 0..1: a raised cosine.
float fade(float t) {
  return 0.5F - 0.5F * std::cos(3.14159265F * std::clamp(t, 0.0F, 1.0F));
}

/// The cells of one axis: where each has weight, and how much. Sums to one everywhere.
struct AxisCell {
  int begin = 0, end = 0;
  std::vector<float> window;  ///< of begin .. end - 1; empty: 1
};
std::vector<AxisCell> axis_cells(int length, int cells) {
  std::vector<AxisCell> result(static_cast<std::size_t>(cells));
  const float step = static_cast<float>(length) / static_cast<float>(cells);
  const float width = 0.5F * step;  // of the fade between two cells
  for (int i = 0; i < cells; ++i) {
    AxisCell& cell = result[static_cast<std::size_t>(i)];
    const float low = step * static_cast<float>(i), high = low + step;
    cell.begin = i == 0 ? 0 : static_cast<int>(std::floor(low - width / 2));
    cell.end = i == cells - 1 ? length : static_cast<int>(std::ceil(high + width / 2));
    if (cells == 1) continue;
    for (int x = cell.begin; x < cell.end; ++x) {
      const float at = static_cast<float>(x) + 0.5F;
      const float in = i == 0 ? 1 : fade((at - low) / width + 0.5F);
      const float out = i == cells - 1 ? 0 : fade((at - high) / width + 0.5F);
      cell.window.push_back(in * (1 - out));
    }
  }
  return result;
}

std::vector<float> part_of(const std::vector<float>& window, int first, int count) {
  if (window.empty()) return {};
  const auto begin = window.begin() + first;
  return {begin, begin + count};
}

std::string in_gigabytes(std::size_t bytes) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text.data();
}

constexpr int most_frames_at_once = 8;
/// Larger transforms do not fit the processor's caches.
constexpr int preferred_transform = 1024;

/// The smallest length of at least `length` that is 1, 3 or 5 times a power of two: per pixel these
/// take two thirds of what lengths like 588 = 4 * 3 * 49 do.
int fast_length(int length) {
  int best = 0;
  for (const int odd : {1, 3, 5}) {
    int candidate = 2 * odd;
    while (candidate < length) candidate *= 2;
    if (best == 0 || candidate < best) best = candidate;
  }
  return best;
}

}  // namespace

/// One channel of one frame in one tile.
struct Solver::Task {
  Task(int in_member, int in_channel, Size size)
      : member(in_member), channel(in_channel), predicted(1, size), observed(1, size) {}
  int member, channel;
  ConstView light;
  const Spectrum* estimate = nullptr;
  Spectrum predicted, observed;        ///< weighed, after predict_and_weigh
  std::optional<Spectrum> own_transfer;
  const Spectrum* transfer = nullptr;
  ResidualStatistics statistics;
  RowCounts counts;
};

Solver::Solver(FrameStream& stream, const MultiframeOptions& options,
               std::vector<std::vector<Image>> kernels, int reach, const Hosts& hosts)
    : stream_(stream),
      options_(options),
      kernels_(std::move(kernels)),
      reach_(reach),
      factor_(options.super_resolution),
      channels_(stream.channels()),
      hosts_(hosts),
      fine_{stream.size().width * factor_, stream.size().height * factor_},
      canvas_{fine_.width + 2 * reach, fine_.height + 2 * reach} {
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
  plan_work();
}

Solver::~Solver() = default;

// ---- cutting up the work -----------------------------------------------------------------------

std::vector<Tile> Solver::cut(int parts_x, int parts_y) const {
  std::vector<Tile> tiles;
  const int grid = options_.psf_grid;
  const auto columns = axis_cells(stream_.size().width, grid);
  const auto rows = axis_cells(stream_.size().height, grid);
  for (int cell = 0; cell < grid * grid; ++cell) {
    const AxisCell& column = columns[static_cast<std::size_t>(cell % grid)];
    const AxisCell& row = rows[static_cast<std::size_t>(cell / grid)];
    const int width = column.end - column.begin, height = row.end - row.begin;
    for (int j = 0; j < parts_y; ++j) {
      const int y0 = height * j / parts_y, y1 = height * (j + 1) / parts_y;
      for (int i = 0; i < parts_x; ++i) {
        const int x0 = width * i / parts_x, x1 = width * (i + 1) / parts_x;
        tiles.push_back({{column.begin + x0, row.begin + y0, x1 - x0, y1 - y0},
                         cell,
                         part_of(column.window, x0, x1 - x0),
                         part_of(row.window, y0, y1 - y0)});
      }
    }
  }
  return tiles;
}

void Solver::choose_tiles(std::size_t budget) {
  const auto members = static_cast<std::size_t>((stream_.count() + hosts_.count - 1) / hosts_.count);
  const auto channels = static_cast<std::size_t>(channels_);
  const std::size_t fixed = (4 * sizeof(float) + 1) * channels * canvas_.pixels();
  const std::size_t frames = sizeof(float) * channels * members * stream_.size().pixels();
  const auto cells = kernels_.size();
  const int most = batch_limit_ > 0 ? batch_limit_ : most_frames_at_once;
  std::size_t needed = 0;
  constexpr double infinite = std::numeric_limits<double>::infinity();
  double least_cost = infinite;
  WorkPlan best;
  for (int parts = 1;; ++parts) {
    WorkPlan plan;
    bool found = false;
    // as square as the frame allows
    const double aspect = static_cast<double>(fine_.height) / fine_.width;
    const int parts_y = std::max(1, static_cast<int>(std::lround(parts * aspect)));
    plan.tiles = cut(parts, parts_y);
    Size largest;
    for (const Tile& tile : plan.tiles) {
      largest.width = std::max(largest.width, tile.data.width);
      largest.height = std::max(largest.height, tile.data.height);
    }
    plan.transform = {fast_length(largest.width * factor_ + 2 * reach_),
                      fast_length(largest.height * factor_ + 2 * reach_)};
    const bool smallest = largest.width * factor_ <= 2 * reach_ || largest.width <= 32;
    const int limit = tile_limit_ > 0 ? tile_limit_ : std::max(preferred_transform, 8 * reach_);
    const std::size_t spectrum = sizeof(std::complex<float>) *
                                 static_cast<std::size_t>(plan.transform.width / 2 + 1) *
                                 static_cast<std::size_t>(plan.transform.height);
    for (int batch = std::min(most, static_cast<int>(members)); batch >= 1; batch /= 2) {
      const auto b = static_cast<std::size_t>(batch);
      const std::size_t work =
          spectrum * channels * (3 + 2 * b + 2) + 4 * b * channels * sizeof(float) * largest.width * largest.height;
      const std::size_t all_transfers = spectrum * channels * members * cells;
      const std::size_t few_transfers = 2 * spectrum * channels * b;
      plan.frames_at_once = batch;
      for (const auto& [keep_frames, keep_transfers] :
           {std::pair{true, true}, {false, true}, {true, false}, {false, false}}) {
        plan.keep_frames = keep_frames;
        plan.keep_transfers = keep_transfers;
        plan.bytes = fixed + work + (keep_frames ? frames : 0) +
                     (keep_transfers ? all_transfers : few_transfers);
        const bool fits = plan.bytes <= budget;
        needed = plan.bytes;
        if (!fits || plan.transform.width > limit || plan.transform.height > limit) continue;
        // pixels transformed per frame and iteration; kernels made anew are a fourth transform, and
        // reading costs about a third of the rest
        const double cost = static_cast<double>(plan.tiles.size()) *
                            static_cast<double>(plan.transform.pixels()) *
                            (keep_transfers ? 3 : 4) * (keep_frames ? 1 : 1.3);
        if (cost < least_cost) {
          least_cost = cost;
          best = plan;
        }
        found = true;
        break;
      }
      if (found) break;
    }
    if (smallest || (least_cost < infinite && plan.transform.width <= 384)) break;
  }
  if (least_cost < infinite) {
    plan_ = std::move(best);
    return;
  }
  throw Error(ErrorKind::exhausted,
              "the set needs " + in_gigabytes(needed) + " beside the program; --memory allows " +
                  in_gigabytes(budget));
}

void Solver::plan_work() { choose_tiles(options_.memory_bytes); }

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
    plan_work();
  } catch (const Error&) {
    return false;
  }
  notes_.push_back("memory ran out: going on with " + std::to_string(plan_.frames_at_once) +
                   " frames at a time in tiles of " + std::to_string(plan_.transform.width) + " px");
  return true;
}

void Solver::take_memory() {
  if (options_.on_memory)
    options_.on_memory(plan_.frames_at_once, plan_.transform.width);
  if (memory_taken_) return;
  if (numerator_.empty()) {
    numerator_ = Image(channels_, canvas_);
    denominator_ = Image(channels_, canvas_);
  }
  if (plan_.keep_frames && !stream_.kept()) stream_.keep(hosts_, options_.threads);
  if (plan_.keep_transfers) {
    transfers_.resize(kernels_.size());
    for (std::size_t cell = 0; cell < kernels_.size(); ++cell) {
      transfers_[cell].clear();
      for (std::size_t i = 0; i < kernels_[cell].size(); ++i) {
        const bool own = mine(static_cast<int>(i) / channels_);
        transfers_[cell].push_back(own ? transfer({&kernels_[cell][i], 1}, plan_.transform)
                                       : Spectrum(0, plan_.transform));
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
  constexpr float seen_sigma = 5;
  const float seen = level + seen_sigma * stack_sigma() / static_cast<float>(factor_ * factor_);
  bright_.resize(estimate_.pixels().size());
  std::ranges::transform(estimate_.pixels(), bright_.begin(),
                         [=](float value) { return static_cast<std::uint8_t>(value > seen ? 1 : 0); });
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

Spectrum Solver::spectrum_of_estimate(const Tile& tile, int channel) {
  const Stopwatch busy(busy_ns_);
  Spectrum spectrum(1, plan_.transform);
  const int width = tile.data.width * factor_ + 2 * reach_;
  const int height = tile.data.height * factor_ + 2 * reach_;
  for (int y = 0; y < plan_.transform.height; ++y) {
    const auto to = spectrum.samples(0, y);
    std::ranges::fill(to, 0.0F);
    if (y >= height) continue;
    const auto from = estimate_.view().row(channel, tile.data.y * factor_ + y);
    std::copy_n(from.begin() + tile.data.x * factor_, width, to.begin());
  }
  const Stopwatch transforming(transform_ns_);
  fft_in_place(spectrum);
  ++transforms_;
  return spectrum;
}

void Solver::predict_and_weigh(const Tile& tile, Task& task) {
  const Stopwatch busy(busy_ns_);
  ++frame_tasks_;
  const std::size_t at = slot(task.member, task.channel);
  if (plan_.keep_transfers) {
    task.transfer = &transfers_[static_cast<std::size_t>(tile.cell)][at];
  } else {
    const Stopwatch transforming(transform_ns_);
    task.own_transfer.emplace(
        transfer({&kernels_[static_cast<std::size_t>(tile.cell)][at], 1}, plan_.transform));
    task.transfer = &*task.own_transfer;
    ++transforms_;
  }
  multiply(task.estimate->plane(0), task.transfer->plane(0), task.predicted.plane(0));
  {
    const Stopwatch transforming(transform_ns_);
    inverse_fft_in_place(task.predicted);
  }
  const float scale = 1.0F / static_cast<float>(plan_.transform.pixels());
  const auto width = static_cast<std::size_t>(tile.data.width);
  const auto margin = static_cast<std::size_t>(reach_), factor = static_cast<std::size_t>(factor_);
  std::vector<float> predicted(width), observed(width), window(tile.window_x.empty() ? 0 : width),
      sigmas;
  const float sigma = stream_.sigma(task.member, task.channel);
  if (options_.variance_maps) sigmas.resize(static_cast<std::size_t>(stream_.size().width));
  const auto clear = [&](int from_y, int to_y) {
    for (int y = from_y; y < to_y; ++y) {
      std::ranges::fill(task.predicted.samples(0, y), 0.0F);
      std::ranges::fill(task.observed.samples(0, y), 0.0F);
    }
  };
  clear(0, reach_);
  for (int y = 0; y < tile.data.height; ++y) {
    std::ranges::fill(predicted, 0.0F);
    for (int v = 0; v < factor_; ++v) {
      const float* from = task.predicted.samples(0, reach_ + y * factor_ + v).data() + margin;
      if (factor_ == 1) {
        for (std::size_t x = 0; x < width; ++x) predicted[x] = scale * from[x];
      } else {
        for (std::size_t x = 0; x < width; ++x) {
          for (std::size_t u = 0; u < factor; ++u) predicted[x] += scale * from[x * factor + u];
        }
      }
    }
    const int frame_y = tile.data.y + y;
    RowInput input{task.light.row(task.channel, y), {&sigma, 1}, window, noise_[at]};
    if (!window.empty()) {
      const float weight = tile.window_y[static_cast<std::size_t>(y)];
      for (std::size_t x = 0; x < width; ++x) window[x] = weight * tile.window_x[x];
    }
    if (options_.variance_maps) {
      stream_.fill_sigma(task.member, task.channel, frame_y, sigmas);
      input.sigma = std::span<const float>(sigmas).subspan(static_cast<std::size_t>(tile.data.x), width);
    }
    // a quarter of the rows tells enough, and always the same ones
    if (frame_y % 4 == 0)
      observe_row(input, weighting_, predicted, task.statistics, task.counts);
    weigh_row(input, weighting_, predicted, observed);
    for (int v = 0; v < factor_; ++v) {
      for (const auto& [values, spectrum] :
           {std::pair{&predicted, &task.predicted}, {&observed, &task.observed}}) {
        const auto to = spectrum->samples(0, reach_ + y * factor_ + v);
        std::fill_n(to.begin(), margin, 0.0F);
        if (factor == 1) {
          std::ranges::copy(*values, to.begin() + static_cast<std::ptrdiff_t>(margin));
        } else {
          for (std::size_t x = 0; x < width; ++x)
            std::fill_n(to.begin() + static_cast<std::ptrdiff_t>(margin + x * factor), factor, (*values)[x]);
        }
        std::fill(to.begin() + static_cast<std::ptrdiff_t>(margin + width * factor), to.end(), 0.0F);
      }
    }
  }
  clear(reach_ + tile.data.height * factor_, plan_.transform.height);
  const Stopwatch transforming(transform_ns_);
  fft_in_place(task.predicted);
  fft_in_place(task.observed);
  transforms_ += 3;
}

void Solver::add_products(std::span<const Task> tasks, std::span<Spectrum> numerators,
                          std::span<Spectrum> denominators) {
  // in the order of the frames, whatever the number of threads: the sums are rounded
  constexpr std::size_t pieces = 16;
  parallel_for(static_cast<int>(pieces), options_.threads, [&](int piece) {
    const Stopwatch busy(busy_ns_);
    for (const Task& task : tasks) {
      const auto c = static_cast<std::size_t>(task.channel);
      const auto kernel = task.transfer->plane(0);
      const std::size_t first = kernel.size() * static_cast<std::size_t>(piece) / pieces;
      const std::size_t count = kernel.size() * static_cast<std::size_t>(piece + 1) / pieces - first;
      const auto part = [=](auto plane) { return plane.subspan(first, count); };
      add_correlations(part(task.observed.plane(0)), part(task.predicted.plane(0)), part(kernel),
                       part(numerators[c].plane(0)), part(denominators[c].plane(0)));
    }
  });
}

void Solver::add_back(const Tile& tile, int channel, Spectrum numerator, Spectrum denominator) {
  const Stopwatch busy(busy_ns_);
  {
    const Stopwatch transforming(transform_ns_);
    inverse_fft_in_place(numerator);
    inverse_fft_in_place(denominator);
    transforms_ += 2;
  }
  const float scale = 1.0F / static_cast<float>(plan_.transform.pixels());
  const auto width = static_cast<std::size_t>(tile.data.width * factor_ + 2 * reach_);
  for (int y = 0; y < tile.data.height * factor_ + 2 * reach_; ++y) {
    for (const auto& [from, image] : {std::pair{&numerator, &numerator_}, {&denominator, &denominator_}}) {
      const float* values = from->samples(0, y).data();
      float* to = image->view().row(channel, tile.data.y * factor_ + y).data() + tile.data.x * factor_;
      for (std::size_t x = 0; x < width; ++x) to[x] += scale * values[x];
    }
  }
}

void Solver::solve_tile(std::size_t index, const Progress& progress) {
  const Tile& tile = plan_.tiles[index];
  std::vector<Spectrum> estimates, numerators, denominators;
  for (int c = 0; c < channels_; ++c) {
    estimates.push_back(spectrum_of_estimate(tile, c));
    for (auto* sums : {&numerators, &denominators}) {
      sums->emplace_back(1, plan_.transform);
      std::ranges::fill(sums->back().plane(0), std::complex<float>{});
    }
  }
  std::vector<int> own;
  for (int m = 0; m < stream_.count(); ++m) {
    if (mine(m)) own.push_back(m);
  }
  const auto at_once = static_cast<std::size_t>(plan_.frames_at_once);
  const auto batch_of = [&](std::size_t first) {
    return std::span<const int>(own).subspan(std::min(first, own.size()),
                                             std::min(at_once, own.size() - std::min(first, own.size())));
  };
  const auto load = [&](std::span<const int> members) {
    std::vector<Image> images;
    if (!plan_.keep_frames) {
      for (const int member : members) images.push_back(stream_.load(member, tile.data));
    }
    return images;
  };
  std::vector<Image> images = load(batch_of(0));
  std::vector<Task>& tasks = tasks_;
  for (std::size_t first = 0; first < own.size(); first += at_once) {
    progress.throw_if_stopped();
    const auto members = batch_of(first);
    while (tasks.size() < members.size() * static_cast<std::size_t>(channels_))
      tasks.emplace_back(0, 0, plan_.transform);
    tasks.erase(tasks.begin() + static_cast<std::ptrdiff_t>(members.size()) * channels_, tasks.end());
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      const auto in_batch = t / static_cast<std::size_t>(channels_);
      tasks[t].member = members[in_batch];
      tasks[t].channel = static_cast<int>(t) % channels_;
      tasks[t].light = plan_.keep_frames ? stream_.view(members[in_batch], tile.data)
                                         : images[in_batch].view();
      tasks[t].estimate = &estimates[static_cast<std::size_t>(tasks[t].channel)];
      tasks[t].statistics = {};
      tasks[t].counts = {};
    }
    // one thread reads the next frames while the others compute
    std::vector<Image> next;
    parallel_for(static_cast<int>(tasks.size()) + 1, options_.threads, [&](int i) {
      if (i == 0) {
        next = load(batch_of(first + at_once));
      } else {
        predict_and_weigh(tile, tasks[static_cast<std::size_t>(i - 1)]);
      }
    });
    add_products(tasks, numerators, denominators);
    for (const Task& task : tasks) {
      const std::size_t at = slot(task.member, task.channel);
      statistics_[at].add(task.statistics);
      counts_[at].pixels += task.counts.pixels;
      counts_[at].rejected += task.counts.rejected;
      counts_[at].softened += task.counts.softened;
    }
    images = std::move(next);
    const double done = static_cast<double>(std::min(first + at_once, own.size())) /
                        static_cast<double>(own.size());
    progress((static_cast<double>(index) + done) / static_cast<double>(plan_.tiles.size()),
             "iteration " + std::to_string(done_ + 1) + ", tile " + std::to_string(index + 1) + " of " +
                 std::to_string(plan_.tiles.size()) + ", frame " +
                 std::to_string(std::min(first + at_once, own.size())) + " of " +
                 std::to_string(own.size()));
  }
  for (int c = 0; c < channels_; ++c) {
    const auto at = static_cast<std::size_t>(c);
    add_back(tile, c, std::move(numerators[at]), std::move(denominators[at]));
  }
}

void Solver::accumulate(const Progress& progress) {
  take_memory();
  std::ranges::fill(numerator_.pixels(), 0.0F);
  std::ranges::fill(denominator_.pixels(), 0.0F);
  std::ranges::fill(statistics_, ResidualStatistics{});
  std::ranges::fill(counts_, RowCounts{});
  for (std::size_t i = 0; i < plan_.tiles.size(); ++i) solve_tile(i, progress);
  if (hosts_.count > 1) {
    hosts_.sum(numerator_.pixels());
    hosts_.sum(denominator_.pixels());
  }
}

IterationSummary Solver::update() {
  IterationSummary summary;
  double signal = 0, updates = 0, changes = 0, sky_updates = 0;
  const auto blocks = static_cast<float>(factor_ * factor_);
  const float level = weighting_.pedestal / blocks, seen = 5 / blocks;
  const float darkest = level - 2.5F * stack_sigma() / blocks;  // what noise explains
  for (int c = 0; c < channels_; ++c) {
    double weight = 0;
    for (int m = 0; m < stream_.count(); ++m) weight += std::pow(stream_.sigma(m, c), -2);
    // Where hardly any data say something the factor goes to one; elsewhere this changes nothing
    // but the speed, since numerator and denominator are equal at the solution.
    const auto epsilon = static_cast<float>(1e-3 * weighting_.pedestal * weight);
    struct Sums {
      double signal = 0, updates = 0, changes = 0, sky_updates = 0;
    };
    std::vector<Sums> rows(static_cast<std::size_t>(canvas_.height));
    parallel_for(canvas_.height, options_.threads, [&](int y) {
      const auto x_row = estimate_.view().row(c, y);
      const auto numerator = numerator_.view().row(c, y);
      const auto denominator = denominator_.view().row(c, y);
      const std::uint8_t* bright =
          bright_.data() + (static_cast<std::size_t>(c) * static_cast<std::size_t>(canvas_.height) +
                            static_cast<std::size_t>(y)) *
                               static_cast<std::size_t>(canvas_.width);
      const bool inside_y = y >= reach_ && y < reach_ + fine_.height;
      Sums sums;
      for (std::size_t x = 0; x < x_row.size(); ++x) {
        const float ratio = std::clamp((numerator[x] + epsilon) / (std::max(denominator[x], 0.0F) + epsilon),
                                       1 / options_.kappa, options_.kappa);
        const float old = x_row[x], factor = 1 + options_.relax * (ratio - 1);
        x_row[x] = bright[x] != 0 ? std::max(old * factor, darkest) : old * factor;
        const int column = static_cast<int>(x);
        if (!inside_y || column < reach_ || column >= reach_ + fine_.width) continue;
        const float light = old - level;
        sums.sky_updates += std::abs(ratio - 1);
        if (light < seen) continue;
        sums.signal += light;
        sums.updates += light * std::abs(ratio - 1);
        sums.changes += std::abs(x_row[x] - old);
      }
      rows[static_cast<std::size_t>(y)] = sums;
    });
    for (const Sums& sums : rows) {
      signal += sums.signal;
      updates += sums.updates;
      changes += sums.changes;
      sky_updates += sums.sky_updates;
    }
  }
  summary.update = signal > 0 ? updates / signal : sky_updates / (static_cast<double>(fine_.pixels()) * channels_);
  summary.change = signal > 0 ? changes / signal : summary.update;
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
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::exhausted || !make_smaller()) throw;
    } catch (const std::bad_alloc&) {
      if (!make_smaller())
        throw Error(ErrorKind::exhausted, "out of memory even for one frame in the smallest tiles");
    }
  }
  IterationSummary summary = update();
  summary.iteration = ++done_;
  summary.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  history_.push_back(summary);
  return !(settle(summary) && options_.early_stop);
}

}  // namespace limpid::multiframe
