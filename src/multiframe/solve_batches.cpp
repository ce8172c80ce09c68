// The frames of a tile, batch by batch: read, solved for by the processor or a device.
#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/fft_lines.h"
#include "core/parallel.h"
#include "multiframe/solver.h"
#include "multiframe/task.h"

namespace limpid::multiframe {

int Solver::most_data_rows() const {
  int most = 0;
  for (const Tile& tile : plan_.tiles) most = std::max(most, data_rows(tile).count());
  return most;
}

/// Frames that are worked on at once: no more than keep the threads busy, in pairs, since what they
/// are worked on in is used again for the next ones, and should still lie in the caches. Which
/// frames make a pair does not depend on the number of threads.
int Solver::frames_in_flight() const {
  if (accelerator_ || plan_.frames_at_once < 2) return plan_.frames_at_once;
  const int pairs = 2 * thread_count(options_.threads);
  const int wanted = (2 * pairs + channels_ - 1) / channels_;
  return std::max(2, std::min(wanted + wanted % 2, plan_.frames_at_once / 2 * 2));
}

/// Short enough for a line of 80 columns with the share done and the time left.
std::string Solver::stage_at(std::size_t tile, std::size_t frame, std::size_t frames) const {
  const auto of = [](std::size_t done, std::size_t all) {
    return std::to_string(done) + "/" + std::to_string(all);
  };
  const std::size_t tiles = plan_.tiles.size();
  std::string stage = "iteration " + of(static_cast<std::size_t>(done_) + 1,
                                        static_cast<std::size_t>(options_.iterations));
  if (tiles > 1) stage += ", tile " + of(tile + 1, tiles);
  stage += ", frame " + of(frame, frames);
  if (history_.empty()) return stage;
  // it is settled below 0.2 %
  const double percent = 100 * history_.back().update;
  std::array<char, 40> update{};
  std::snprintf(update.data(), update.size(), ", update %.*f %%", percent < 10 ? 2 : 0, percent);
  return stage + update.data();
}

void Solver::for_batches(
    std::size_t index, const Progress& progress,
    const std::function<void(const Batch&, const std::function<void()>&)>& work) {
  const Tile& tile = plan_.tiles[index];
  std::vector<int> own;
  for (int m = 0; m < stream_.count(); ++m) {
    if (mine(m)) own.push_back(m);
  }
  const auto at_once = static_cast<std::size_t>(frames_in_flight());
  const auto members_from = [&](std::size_t first) {
    first = std::min(first, own.size());
    return std::span<const int>(own).subspan(first, std::min(at_once, own.size() - first));
  };
  const auto load = [&](std::span<const int> members) {
    std::vector<Image> images;
    if (!plan_.keep_frames) {
      for (const int member : members) images.push_back(stream_.load(member, tile.data));
    }
    return images;
  };
  std::vector<Image> images = load(members_from(0)), next;
  for (std::size_t first = 0; first < own.size(); first += at_once) {
    progress.throw_if_stopped();
    Batch batch{members_from(first), {}};
    for (std::size_t i = 0; i < batch.first.size(); ++i) {
      batch.second.push_back(plan_.keep_frames ? stream_.view(batch.first[i], tile.data)
                                               : images[i].view());
    }
    work(batch, [&] { next = load(members_from(first + at_once)); });
    images = std::exchange(next, {});
    const std::size_t over = std::min(first + at_once, own.size());
    progress(
        (static_cast<double>(index) + static_cast<double>(over) / static_cast<double>(own.size())) /
            static_cast<double>(plan_.tiles.size()),
        stage_at(index, over, own.size()));
  }
}

void Solver::keep(int member, int channel, const ResidualStatistics& statistics,
                  const RowCounts& counts) {
  const std::size_t at = slot(member, channel);
  statistics_[at].add(statistics);
  counts_[at].pixels += counts.pixels;
  counts_[at].rejected += counts.rejected;
  counts_[at].softened += counts.softened;
}

void Solver::solve_tile(std::size_t index, const Progress& progress) {
  const Tile& tile = plan_.tiles[index];
  std::vector<ColumnSpectrum> estimates;
  std::vector<ComplexLines> sums;
  for (int c = 0; c < channels_; ++c) {
    estimates.emplace_back(0, plan_.transform);
    sums.emplace_back(plan_.transform.width, plan_.transform.height);
  }
  parallel_for(channels_, options_.threads, [&](int channel) {
    transform_estimate(tile, channel, estimates[static_cast<std::size_t>(channel)]);
  });
  bool begun = false;
  for_batches(index, progress, [&](const Batch& batch, const std::function<void()>& read_next) {
    const auto& [members, pixels] = batch;
    std::vector<Task>& tasks = tasks_;
    while (tasks.size() < members.size() * static_cast<std::size_t>(channels_))
      tasks.emplace_back(plan_.transform.width, most_data_rows());
    tasks.erase(tasks.begin() + static_cast<std::ptrdiff_t>(members.size()) * channels_,
                tasks.end());
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      const auto in_batch = t / static_cast<std::size_t>(channels_);
      tasks[t].member = members[in_batch];
      tasks[t].channel = static_cast<int>(t) % channels_;
      tasks[t].light = pixels[in_batch];
      tasks[t].estimate = &estimates[static_cast<std::size_t>(tasks[t].channel)];
      tasks[t].statistics = {};
      tasks[t].counts = {};
    }
    // one thread reads the next frames while the others compute
    const std::size_t pairs = (tasks.size() + 1) / 2;
    parallel_for(static_cast<int>(pairs) + 1, options_.threads, [&](int i) {
      if (i == 0) return read_next();
      const std::size_t first = 2 * static_cast<std::size_t>(i - 1);
      predict_and_weigh(tile, tasks[first], tasks[std::min(first + 1, tasks.size() - 1)]);
    });
    add_products(tile, tasks, sums, begun);
    begun = true;
    for (const Task& task : tasks) keep(task.member, task.channel, task.statistics, task.counts);
  });
  if (begun) add_back(tile, sums);  // a host may have no frames
}

void Solver::solve_tile_on_device(std::size_t index, const Progress& progress) {
  const Tile& tile = plan_.tiles[index];
  // of the canvas, the margin included
  const Rect whole{tile.data.x * factor_, tile.data.y * factor_,
                   tile.data.width * factor_ + 2 * reach_, tile.data.height * factor_ + 2 * reach_};
  accelerator_->begin({&tile, plan_.transform, factor_, reach_, weighting_},
                      estimate_.view().crop(whole));
  for_batches(index, progress, [&](const Batch& batch, const std::function<void()>& read_next) {
    std::vector<AcceleratedFrame> frames;
    for (std::size_t i = 0; i < batch.first.size(); ++i) {
      for (int c = 0; c < channels_; ++c) {
        const int member = batch.first[i];
        AcceleratedFrame& frame = frames.emplace_back();
        frame.slot = slot(member, c);
        frame.channel = c;
        frame.light = batch.second[i].channel(c);
        frame.kernel = &kernels_[static_cast<std::size_t>(tile.cell)][frame.slot];
        frame.sigma = sigmas_of(tile, member, c);
        frame.noise = noise_[frame.slot];
      }
    }
    std::vector<AcceleratedSums> sums;
    parallel_for(2, options_.threads, [&](int i) {
      if (i == 0) {
        read_next();
      } else {
        sums = accelerator_->add(frames);
      }
    });
    for (std::size_t i = 0; i < frames.size(); ++i) {
      keep(batch.first[i / static_cast<std::size_t>(channels_)], frames[i].channel,
           sums[i].statistics, sums[i].counts);
    }
  });
  accelerator_->finish(numerator_.view().crop(whole), denominator_.view().crop(whole));
}

/// One for all pixels, or with variance maps one for each.
std::vector<float> Solver::sigmas_of(const Tile& tile, int member, int channel) const {
  if (!options_.variance_maps) return {stream_.sigma(member, channel)};
  std::vector<float> row(static_cast<std::size_t>(stream_.size().width)), all;
  for (int y = 0; y < tile.data.height; ++y) {
    stream_.fill_sigma(member, channel, tile.data.y + y, row);
    all.insert(all.end(), row.begin() + tile.data.x, row.begin() + tile.data.x + tile.data.width);
  }
  return all;
}

}  // namespace limpid::multiframe
