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

/// Columns that are worked on together: their five spectra stay in the processor's cache.
constexpr int columns_at_once = 16;
int block_count(const ColumnSpectrum& spectrum) {
  return (spectrum.columns() + columns_at_once - 1) / columns_at_once;
}
Lines block_of_columns(const ColumnSpectrum& spectrum, int index) {
  return {index * columns_at_once, std::min((index + 1) * columns_at_once, spectrum.columns())};
}

/// Whole pixels' worth of fine rows.
int rows_at_once(int factor) { return RowBlock::most_rows / factor * factor; }

/// What lies above and below the tile's rows.
void clear_margins(ColumnSpectrum& spectrum, Lines columns, Lines rows) {
  for (int kx = columns.begin; kx < columns.end; ++kx) {
    const auto column = spectrum.column(0, kx);
    std::fill(column.begin(), column.begin() + rows.begin, std::complex<float>());
    std::fill(column.begin() + rows.end, column.end(), std::complex<float>());
  }
}

}  // namespace

void Solver::transform_estimate(const Tile& tile, int channel, ColumnSpectrum& spectrum) {
  const Stopwatch busy(busy_ns_);
  const int width = tile.data.width * factor_ + 2 * reach_;
  const int height = tile.data.height * factor_ + 2 * reach_;
  RowBlock rows(plan_.transform.width);
  for (int y = 0; y < height; y += RowBlock::most_rows) {
    const int count = std::min(RowBlock::most_rows, height - y);
    for (int i = 0; i < count; ++i) {
      const auto from = estimate_.view().row(channel, tile.data.y * factor_ + y + i);
      const auto end =
          std::copy_n(from.begin() + tile.data.x * factor_, width, rows.row(i).begin());
      std::fill(end, rows.row(i).end(), 0.0F);
    }
    const Stopwatch transforming(transform_ns_);
    rows.give(spectrum, 0, y, count);
  }
  clear_margins(spectrum, {0, spectrum.columns()}, {0, height});
  const Stopwatch transforming(transform_ns_);
  fft_columns(spectrum, 0, {0, spectrum.columns()});
  ++transforms_;
}

/// The product with the PSF's transform, and the first half of the way back.
void Solver::predict_columns(const Tile& tile, Task& task) {
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
  for (int i = 0; i < block_count(task.predicted); ++i) {
    const Lines columns = block_of_columns(task.predicted, i);
    for (int kx = columns.begin; kx < columns.end; ++kx) {
      multiply(task.estimate->column(0, kx), task.transfer->column(0, kx),
               task.predicted.column(0, kx));
    }
    const Stopwatch transforming(transform_ns_);
    inverse_fft_columns(task.predicted, 0, columns);
  }
  ++transforms_;
}

/// Row by row the prediction comes out of the inverse transform, is compared with the frame, and
/// what it weighs goes into the forward ones.
void Solver::weigh_rows(const Tile& tile, Task& task) {
  const auto width = static_cast<std::size_t>(tile.data.width);
  const auto margin = static_cast<std::size_t>(reach_), factor = static_cast<std::size_t>(factor_);
  std::vector<float> window(tile.window_x.empty() ? 0 : width), sigmas;
  // with one fine pixel per pixel all happens where the transforms want it
  std::vector<float> blocks(factor == 1 ? 0 : width), weighted(blocks.size());
  const float sigma = stream_.sigma(task.member, task.channel);
  if (options_.variance_maps) sigmas.resize(static_cast<std::size_t>(stream_.size().width));
  RowBlock predicted_rows(plan_.transform.width), observed_rows(plan_.transform.width);
  const auto weigh = [&](int y, int first) {
    const int frame_y = tile.data.y + y;
    std::span<float> predicted = blocks, observed = weighted;
    if (factor == 1) {
      predicted = predicted_rows.row(first).subspan(margin, width);
      observed = observed_rows.row(first).subspan(margin, width);
    } else {
      std::ranges::fill(predicted, 0.0F);
      for (int v = 0; v < factor_; ++v)
        add_blocks(predicted_rows.row(first + v).subspan(margin), factor, predicted);
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
      spread_blocks(predicted, factor, predicted_rows.row(first + v), margin);
      spread_blocks(observed, factor, observed_rows.row(first + v), margin);
    }
  };
  const Lines rows = data_rows(tile);
  for (int begin = rows.begin; begin < rows.end; begin += rows_at_once(factor_)) {
    const int count = std::min(rows_at_once(factor_), rows.end - begin);
    {
      const Stopwatch transforming(transform_ns_);
      predicted_rows.take(task.predicted, 0, begin, count);
    }
    for (int i = 0; i < count; i += factor_) weigh((begin - rows.begin + i) / factor_, i);
    const Stopwatch transforming(transform_ns_);
    predicted_rows.give(task.predicted, 0, begin, count);
    observed_rows.give(task.observed, 0, begin, count);
  }
}

void Solver::predict_and_weigh(const Tile& tile, Task& task) {
  const Stopwatch busy(busy_ns_);
  ++frame_tasks_;
  predict_columns(tile, task);
  weigh_rows(tile, task);
}

/// The second half of the transforms of what was weighed, and the sums.
void Solver::add_products(const Tile& tile, std::span<Task> tasks,
                          std::span<ColumnSpectrum> numerators,
                          std::span<ColumnSpectrum> denominators) {
  const Lines rows = data_rows(tile);
  parallel_for(block_count(numerators[0]), options_.threads, [&](int i) {
    const Stopwatch busy(busy_ns_);
    const Lines columns = block_of_columns(numerators[0], i);
    // in the order of the frames, whatever the number of threads: the sums are rounded
    for (Task& task : tasks) {
      for (ColumnSpectrum* spectrum : {&task.observed, &task.predicted}) {
        clear_margins(*spectrum, columns, rows);
        const Stopwatch transforming(transform_ns_);
        fft_columns(*spectrum, 0, columns);
      }
      const auto c = static_cast<std::size_t>(task.channel);
      for (int kx = columns.begin; kx < columns.end; ++kx) {
        add_correlations(task.observed.column(0, kx), task.predicted.column(0, kx),
                         task.transfer->column(0, kx), numerators[c].column(0, kx),
                         denominators[c].column(0, kx));
      }
    }
  });
  transforms_ += 2 * tasks.size();
}

void Solver::add_back(const Tile& tile, std::span<ColumnSpectrum> numerators,
                      std::span<ColumnSpectrum> denominators) {
  parallel_for(2 * channels_, options_.threads, [&](int i) {
    const Stopwatch busy(busy_ns_);
    const int channel = i / 2;
    ColumnSpectrum& from =
        (i % 2 == 0 ? numerators : denominators)[static_cast<std::size_t>(channel)];
    Image& to = i % 2 == 0 ? numerator_ : denominator_;
    {
      const Stopwatch transforming(transform_ns_);
      inverse_fft_columns(from, 0, {0, from.columns()});
      ++transforms_;
    }
    const auto width = static_cast<std::size_t>(tile.data.width * factor_ + 2 * reach_);
    const int height = tile.data.height * factor_ + 2 * reach_;
    RowBlock rows(plan_.transform.width);
    for (int y = 0; y < height; y += RowBlock::most_rows) {
      const int count = std::min(RowBlock::most_rows, height - y);
      {
        const Stopwatch transforming(transform_ns_);
        rows.take(from, 0, y, count);
      }
      for (int r = 0; r < count; ++r) {
        const float* values = rows.row(r).data();
        float* sums =
            to.view().row(channel, tile.data.y * factor_ + y + r).data() + tile.data.x * factor_;
        for (std::size_t x = 0; x < width; ++x) sums[x] += values[x];
      }
    }
  });
}

void Solver::for_batches(
    std::size_t index, const Progress& progress,
    const std::function<void(const Batch&, const std::function<void()>&)>& work) {
  const Tile& tile = plan_.tiles[index];
  std::vector<int> own;
  for (int m = 0; m < stream_.count(); ++m) {
    if (mine(m)) own.push_back(m);
  }
  const auto at_once = static_cast<std::size_t>(plan_.frames_at_once);
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
        "iteration " + std::to_string(done_ + 1) + ", tile " + std::to_string(index + 1) + " of " +
            std::to_string(plan_.tiles.size()) + ", frame " + std::to_string(over) + " of " +
            std::to_string(own.size()));
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
  std::vector<ColumnSpectrum> estimates, numerators, denominators;
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
      ColumnSpectrum& sums = (i < 2 * channels_ ? numerators : denominators)[at];
      clear_margins(sums, {0, sums.columns()}, {0, 0});
    }
  });
  for_batches(index, progress, [&](const Batch& batch, const std::function<void()>& read_next) {
    const auto& [members, pixels] = batch;
    std::vector<Task>& tasks = tasks_;
    while (tasks.size() < members.size() * static_cast<std::size_t>(channels_))
      tasks.emplace_back(0, 0, plan_.transform);
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
    parallel_for(static_cast<int>(tasks.size()) + 1, options_.threads, [&](int i) {
      if (i == 0) {
        read_next();
      } else {
        predict_and_weigh(tile, tasks[static_cast<std::size_t>(i - 1)]);
      }
    });
    add_products(tile, tasks, numerators, denominators);
    for (const Task& task : tasks) keep(task.member, task.channel, task.statistics, task.counts);
  });
  add_back(tile, numerators, denominators);
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
