// What an iteration does to one tile: predict all frames, weigh the residuals, project them back.
#include <time.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "core/parallel.h"
#include "multiframe/solver.h"
#include "multiframe/task.h"

namespace limpid::multiframe {
namespace {

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

}  // namespace

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
      input.sigma =
          std::span<const float>(sigmas).subspan(static_cast<std::size_t>(tile.data.x), width);
    }
    // a quarter of the rows tells enough, and always the same ones
    if (frame_y % 4 == 0) observe_row(input, weighting_, predicted, task.statistics, task.counts);
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
            std::fill_n(to.begin() + static_cast<std::ptrdiff_t>(margin + x * factor), factor,
                        (*values)[x]);
        }
        std::fill(to.begin() + static_cast<std::ptrdiff_t>(margin + width * factor), to.end(),
                  0.0F);
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
      const std::size_t count =
          kernel.size() * static_cast<std::size_t>(piece + 1) / pieces - first;
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
    for (const auto& [from, image] :
         {std::pair{&numerator, &numerator_}, {&denominator, &denominator_}}) {
      const float* values = from->samples(0, y).data();
      float* to =
          image->view().row(channel, tile.data.y * factor_ + y).data() + tile.data.x * factor_;
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
    return std::span<const int>(own).subspan(
        std::min(first, own.size()), std::min(at_once, own.size() - std::min(first, own.size())));
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
    tasks.erase(tasks.begin() + static_cast<std::ptrdiff_t>(members.size()) * channels_,
                tasks.end());
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      const auto in_batch = t / static_cast<std::size_t>(channels_);
      tasks[t].member = members[in_batch];
      tasks[t].channel = static_cast<int>(t) % channels_;
      tasks[t].light =
          plan_.keep_frames ? stream_.view(members[in_batch], tile.data) : images[in_batch].view();
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
             "iteration " + std::to_string(done_ + 1) + ", tile " + std::to_string(index + 1) +
                 " of " + std::to_string(plan_.tiles.size()) + ", frame " +
                 std::to_string(std::min(first + at_once, own.size())) + " of " +
                 std::to_string(own.size()));
  }
  for (int c = 0; c < channels_; ++c) {
    const auto at = static_cast<std::size_t>(c);
    add_back(tile, c, std::move(numerators[at]), std::move(denominators[at]));
  }
}

}  // namespace limpid::multiframe
