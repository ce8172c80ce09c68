// What an iteration does to one tile: predict all frames, weigh the residuals, project them back.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "core/parallel.h"
#include "multiframe/kernels.h"
#include "multiframe/products.h"
#include "multiframe/solver.h"
#include "multiframe/stopwatch.h"
#include "multiframe/task.h"

namespace limpid::multiframe {
namespace {

/// Adds `factor` neighbouring fine pixels to each pixel.
void add_blocks(std::span<const float> fine, std::size_t factor, std::span<float> pixels) {
  for (std::size_t x = 0; x < pixels.size(); ++x) {
    for (std::size_t u = 0; u < factor; ++u) pixels[x] += fine[x * factor + u];
  }
}
/// Each pixel into its `factor` fine pixels from `margin` on, zero on both sides. With a factor of
/// one the pixels are there already.
void spread_blocks(std::span<const float> pixels, std::size_t factor, std::span<float> fine,
                   std::size_t margin) {
  const std::size_t end = margin + pixels.size() * factor;
  for (std::size_t x = 0; factor > 1 && x < pixels.size(); ++x)
    std::ranges::fill(fine.subspan(margin + x * factor, factor), pixels[x]);
  std::ranges::fill(fine.first(margin), 0.0F);
  std::ranges::fill(fine.subspan(end), 0.0F);
}

void clear_rows(Spectrum& spectrum, int from, int to) {
  for (int y = from; y < to; ++y) std::ranges::fill(spectrum.samples(0, y), 0.0F);
}

}  // namespace

void Solver::transform_estimate(const Tile& tile, int channel, Spectrum& spectrum) {
  const Stopwatch busy(busy_ns_);
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
}

void Solver::predict(const Tile& tile, Task& task) {
  const std::size_t at = slot(task.member, task.channel);
  if (plan_.keep_transfers) {
    task.transfer = &transfers_[static_cast<std::size_t>(tile.cell)][at];
  } else {
    const Stopwatch transforming(transform_ns_);
    task.own_transfer.emplace(
        scaled_transfer(kernels_[static_cast<std::size_t>(tile.cell)][at], plan_.transform));
    task.transfer = &*task.own_transfer;
    ++transforms_;
  }
  multiply(task.estimate->plane(0), task.transfer->plane(0), task.predicted.plane(0));
  const Stopwatch transforming(transform_ns_);
  inverse_fft_in_place(task.predicted);
  ++transforms_;
}

void Solver::weigh(const Tile& tile, Task& task) {
  const auto width = static_cast<std::size_t>(tile.data.width);
  const auto margin = static_cast<std::size_t>(reach_), factor = static_cast<std::size_t>(factor_);
  std::vector<float> window(tile.window_x.empty() ? 0 : width), sigmas;
  // with one fine pixel per pixel all happens where the transforms want it
  std::vector<float> blocks(factor == 1 ? 0 : width), weighted(blocks.size());
  const float sigma = stream_.sigma(task.member, task.channel);
  if (options_.variance_maps) sigmas.resize(static_cast<std::size_t>(stream_.size().width));
  const auto fine_row = [&](Spectrum& spectrum, int y) { return spectrum.samples(0, reach_ + y); };
  for (int y = 0; y < tile.data.height; ++y) {
    const int frame_y = tile.data.y + y;
    std::span<float> predicted = blocks, observed = weighted;
    if (factor == 1) {
      predicted = fine_row(task.predicted, y).subspan(margin, width);
      observed = fine_row(task.observed, y).subspan(margin, width);
    } else {
      std::ranges::fill(predicted, 0.0F);
      for (int v = 0; v < factor_; ++v)
        add_blocks(fine_row(task.predicted, y * factor_ + v).subspan(margin), factor, predicted);
    }
    RowInput input{task.light.row(task.channel, y),
                   {&sigma, 1},
                   window,
                   noise_[slot(task.member, task.channel)]};
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
      spread_blocks(predicted, factor, fine_row(task.predicted, y * factor_ + v), margin);
      spread_blocks(observed, factor, fine_row(task.observed, y * factor_ + v), margin);
    }
  }
  clear_rows(task.predicted, 0, reach_);
  clear_rows(task.observed, 0, reach_);
  clear_rows(task.predicted, reach_ + tile.data.height * factor_, plan_.transform.height);
  clear_rows(task.observed, reach_ + tile.data.height * factor_, plan_.transform.height);
}

void Solver::predict_and_weigh(const Tile& tile, Task& task) {
  const Stopwatch busy(busy_ns_);
  ++frame_tasks_;
  predict(tile, task);
  weigh(tile, task);
  const Stopwatch transforming(transform_ns_);
  fft_in_place(task.predicted);
  fft_in_place(task.observed);
  transforms_ += 2;
}

void Solver::add_products(std::span<const Task> tasks, std::span<Spectrum> numerators,
                          std::span<Spectrum> denominators) {
  // in the order of the frames, whatever the number of threads: the sums are rounded
  constexpr std::size_t pieces = 64;  // whose sums stay in the processor's cache
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

void Solver::add_back(const Tile& tile, std::span<Spectrum> numerators,
                      std::span<Spectrum> denominators) {
  parallel_for(2 * channels_, options_.threads, [&](int i) {
    const Stopwatch busy(busy_ns_);
    const int channel = i / 2;
    Spectrum& from = (i % 2 == 0 ? numerators : denominators)[static_cast<std::size_t>(channel)];
    Image& to = i % 2 == 0 ? numerator_ : denominator_;
    {
      const Stopwatch transforming(transform_ns_);
      inverse_fft_in_place(from);
      ++transforms_;
    }
    const auto width = static_cast<std::size_t>(tile.data.width * factor_ + 2 * reach_);
    for (int y = 0; y < tile.data.height * factor_ + 2 * reach_; ++y) {
      const float* values = from.samples(0, y).data();
      float* sums =
          to.view().row(channel, tile.data.y * factor_ + y).data() + tile.data.x * factor_;
      for (std::size_t x = 0; x < width; ++x) sums[x] += values[x];
    }
  });
}

void Solver::solve_tile(std::size_t index, const Progress& progress) {
  const Tile& tile = plan_.tiles[index];
  std::vector<Spectrum> estimates, numerators, denominators;
  for (int c = 0; c < channels_; ++c) {
    for (auto* spectra : {&estimates, &numerators, &denominators})
      spectra->emplace_back(1, plan_.transform);
  }
  parallel_for(3 * channels_, options_.threads, [&](int i) {
    const int channel = i % channels_;
    const auto at = static_cast<std::size_t>(channel);
    if (i < channels_) {
      transform_estimate(tile, channel, estimates[at]);
    } else {
      auto& sums = i < 2 * channels_ ? numerators : denominators;
      std::ranges::fill(sums[at].plane(0), std::complex<float>{});
    }
  });
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
  add_back(tile, numerators, denominators);
}

}  // namespace limpid::multiframe
