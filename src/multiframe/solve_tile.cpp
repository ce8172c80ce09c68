// What an iteration does to one tile: predict its frames, weigh the residuals, project them back.
#include <algorithm>
#include <array>
#include <complex>
#include <cstring>
#include <vector>

#include "core/fft_lines.h"
#include "core/parallel.h"
#include "multiframe/kernels.h"
#include "multiframe/products.h"
#include "multiframe/solver.h"
#include "multiframe/stopwatch.h"
#include "multiframe/task.h"

namespace limpid::multiframe {
namespace {

/// Adds `factor` neighbouring fine pixels, real and imaginary parts apart, to each pixel.
void add_blocks(std::span<const std::complex<float>> fine, std::size_t factor,
                std::span<float> first, std::span<float> second) {
  const auto* values = reinterpret_cast<const float*>(fine.data());  // as the standard promises
  for (std::size_t x = 0; x < first.size(); ++x) {
    for (std::size_t u = 0; u < factor; ++u) {
      first[x] += values[2 * (x * factor + u)];
      second[x] += values[2 * (x * factor + u) + 1];
    }
  }
}
/// The same where each pixel is one fine pixel.
void take_parts(std::span<const std::complex<float>> fine, std::span<float> first,
                std::span<float> second) {
  const auto* __restrict values = reinterpret_cast<const float*>(fine.data());
  float* __restrict real = first.data(), * __restrict imaginary = second.data();
  for (std::size_t x = 0; x < first.size(); ++x) {
    real[x] = values[2 * x];
    imaginary[x] = values[2 * x + 1];
  }
}

/// Columns that are worked on together: few, so that what they need stays in the first-level cache,
/// but enough that telling the time between products and transforms takes none.
constexpr int columns_at_once = 2;
int block_count(const ColumnSpectrum& spectrum) {
  return (spectrum.columns() + columns_at_once - 1) / columns_at_once;
}
/// Rows that are turned together: two cache lines of each column.
constexpr int most_rows_at_once = 16;

/// Asks for all of a line that is needed in a moment: its cache lines come side by side, not each
/// when it is read. What that takes is not counted as time in transforms.
template <typename Value>
void fetch(std::span<const Value> line) {
  constexpr std::size_t step = 64 / sizeof(Value);  // of a cache line
  for (std::size_t i = 0; i < line.size(); i += step) __builtin_prefetch(&line[i]);
}

void copy_into(std::span<const std::complex<float>> from, std::span<std::complex<float>> to,
               int place) {
  std::memcpy(static_cast<void*>(&to[static_cast<std::size_t>(place)]), from.data(),
              from.size_bytes());
}

}  // namespace

void Solver::transform_estimate(const Tile& tile, int channel, ColumnSpectrum& spectrum) {
  const Stopwatch busy(busy_ns_);
  const Rect part{tile.data.x * factor_, tile.data.y * factor_,
                  tile.data.width * factor_ + 2 * reach_, tile.data.height * factor_ + 2 * reach_};
  Image padded(1, plan_.transform);
  for (int y = 0; y < part.height; ++y)
    std::ranges::copy(estimate_.view().crop(part).row(channel, y), padded.view().row(0, y).begin());
  const Stopwatch transforming(transform_ns_);
  spectrum = column_fft(padded.view());
  ++transforms_;
}

const ColumnSpectrum& Solver::transfer_of(const Tile& tile, Task& task) {
  const std::size_t at = slot(task.member, task.channel);
  const auto cell = static_cast<std::size_t>(tile.cell);
  if (plan_.keep_transfers) return transfers_[cell][at];
  const Stopwatch transforming(transform_ns_);
  task.own_transfer.emplace(scaled_transfer(kernels_[cell][at], plan_.transform));
  ++transforms_;
  return *task.own_transfer;
}

/// The products with the PSFs' transforms, and the first half of the way back: of both predictions
/// at once, the second one times i.
void Solver::predict_columns(const Tile& tile, Task& first, Task& second) {
  for (Task* task : {&first, &second}) task->transfer = &transfer_of(tile, *task);
  const int width = plan_.transform.width, height = plan_.transform.height;
  const Lines rows = data_rows(tile);
  const LineFft fft(height);
  // a column and the one mirrored to it, whose frequencies run backwards
  ComplexLines products(2 * columns_at_once, height), field(1, height);
  for (int begin = 0; begin <= width / 2; begin += columns_at_once) {
    const int count = std::min(columns_at_once, width / 2 + 1 - begin);
    for (int i = 0; i < count; ++i) {
      multiply_pair(first.estimate->column(0, begin + i), first.transfer->column(0, begin + i),
                    second.estimate->column(0, begin + i), second.transfer->column(0, begin + i),
                    products.line(2 * i), products.line(2 * i + 1));
    }
    for (int i = 0; i < count; ++i) {
      const int next = std::min(begin + i + columns_at_once, width / 2);
      for (const ColumnSpectrum* spectrum : {first.estimate, first.transfer, second.transfer})
        fetch(spectrum->column(0, next));
    }
    const auto put = [&](int column) {
      const auto data = field.line(0).subspan(static_cast<std::size_t>(rows.begin),
                                              static_cast<std::size_t>(rows.count()));
      copy_into(data, first.weighed.line(column), 0);
    };
    const Stopwatch transforming(transform_ns_);
    for (int i = 0; i < count; ++i) {
      const int kx = begin + i;
      fft.inverse(products.line(2 * i), field.line(0));
      put(kx);
      if (!has_mirror(kx)) continue;
      fft.forward(products.line(2 * i + 1), field.line(0));
      put(width - kx);
    }
  }
  transforms_ += 2;
}

/// One row of one frame, compared with its prediction.
class Solver::RowWeigher {
 public:
  RowWeigher(const Solver& solver, const Tile& tile, Task& task)
      : solver_(solver),
        tile_(tile),
        task_(task),
        sigma_(solver.stream_.sigma(task.member, task.channel)),
        window_(tile.window_x.empty() ? 0 : static_cast<std::size_t>(tile.data.width)),
        sigmas_(solver.options_.variance_maps
                    ? static_cast<std::size_t>(solver.stream_.size().width)
                    : 0) {}

  void weigh(int y, std::span<const float> predicted, std::span<std::complex<float>> weighed) {
    const int frame_y = tile_.data.y + y;
    RowInput input{task_.light.row(task_.channel, y),
                   {&sigma_, 1},
                   window_,
                   solver_.noise_[solver_.slot(task_.member, task_.channel)]};
    if (!window_.empty()) {
      const float weight = tile_.window_y[static_cast<std::size_t>(y)];
      for (std::size_t x = 0; x < window_.size(); ++x) window_[x] = weight * tile_.window_x[x];
    }
    if (!sigmas_.empty()) {
      solver_.stream_.fill_sigma(task_.member, task_.channel, frame_y, sigmas_);
      input.sigma = std::span<const float>(sigmas_).subspan(
          static_cast<std::size_t>(tile_.data.x), static_cast<std::size_t>(tile_.data.width));
    }
    // a quarter of the rows tells enough, and always the same ones
    if (frame_y % 4 == 0)
      observe_row(input, solver_.weighting_, predicted, task_.statistics, task_.counts);
    weigh_row(input, solver_.weighting_, predicted, weighed);
  }

 private:
  const Solver& solver_;
  const Tile& tile_;
  Task& task_;
  float sigma_;
  std::vector<float> window_, sigmas_;
};

/// Some rows at a time the predictions come out of the inverse transform, are compared with the
/// frames, and what these weigh goes into the forward ones. `second` may be `first`: it is alone.
void Solver::weigh_rows(const Tile& tile, Task& first, Task& second) {
  const bool alone = &first == &second;
  const auto width = static_cast<std::size_t>(tile.data.width);
  const auto margin = static_cast<std::size_t>(reach_), factor = static_cast<std::size_t>(factor_);
  const int at_once = most_rows_at_once / factor_ * factor_;
  // rows of pixels between two looks at the clock: few enough for the first-level cache
  const int group = factor_ == 1 ? 4 : 1;
  const LineFft fft(plan_.transform.width);
  ComplexLines predicted(at_once, plan_.transform.width);
  ComplexLines fields(group * factor_, plan_.transform.width);
  // what has been weighed lies between margins that stay zero
  ComplexLines weighed(2 * group, plan_.transform.width);
  weighed.clear();
  std::array<ComplexLines, 2> spectra{ComplexLines(at_once, plan_.transform.width),
                                      ComplexLines(alone ? 0 : at_once, plan_.transform.width)};
  std::array<RowWeigher, 2> weighers{RowWeigher(*this, tile, first),
                                     RowWeigher(*this, tile, second)};
  std::array<std::vector<float>, 2> parts{std::vector<float>(width), std::vector<float>(width)};
  std::vector<std::complex<float>> pixels(factor == 1 ? 0 : width);
  const int tasks = alone ? 1 : 2;

  const auto take_pixels = [&](int row) {
    if (factor == 1) return take_parts(fields.line(row).subspan(margin, width), parts[0], parts[1]);
    for (auto& part : parts) std::ranges::fill(part, 0.0F);
    for (int v = 0; v < factor_; ++v)
      add_blocks(fields.line(row * factor_ + v).subspan(margin), factor, parts[0], parts[1]);
  };
  const auto weigh = [&](int y, int row, int t) {
    const auto at = static_cast<std::size_t>(t);
    const Task& task = t == 0 ? first : second;
    // a row's values are there when its turn comes
    if (y + group < tile.data.height)
      fetch(std::span<const float>(task.light.row(task.channel, y + group)));
    const auto line = weighed.line(2 * row + t).subspan(margin, width * factor);
    if (factor == 1) return weighers[at].weigh(y, parts[at], line);
    weighers[at].weigh(y, parts[at], pixels);
    for (std::size_t x = 0; x < width; ++x)
      std::ranges::fill(line.subspan(x * factor, factor), pixels[x]);
  };
  // from fine row `begin` of the tile on, which lies in line i
  const auto work_on = [&](int begin, int i, int count) {
    {
      const Stopwatch transforming(transform_ns_);
      for (int v = 0; v < count; ++v) fft.inverse(predicted.line(i + v), fields.line(v));
    }
    for (int row = 0; row < count / factor_; ++row) {
      take_pixels(row);
      for (int t = 0; t < tasks; ++t) weigh(begin / factor_ + row, row, t);
    }
    const Stopwatch transforming(transform_ns_);
    for (int v = 0; v < count; ++v) {
      for (int t = 0; t < tasks; ++t) {
        ComplexLines& spectrum = spectra[static_cast<std::size_t>(t)];
        if (v % factor_ == 0) {
          fft.forward(weighed.line(2 * (v / factor_) + t), spectrum.line(i + v));
        } else {  // fine rows of one row of pixels are alike
          copy_into(spectrum.line(i + v - 1), spectrum.line(i + v), 0);
        }
      }
    }
  };
  const Lines rows = data_rows(tile);
  for (int begin = 0; begin < rows.count(); begin += at_once) {
    const int count = std::min(at_once, rows.count() - begin);
    {
      const Stopwatch transforming(transform_ns_);
      turn(first.weighed, begin, count, predicted);
    }
    for (int i = 0; i < count; i += group * factor_)
      work_on(begin + i, i, std::min(group * factor_, count - i));
    const Stopwatch transforming(transform_ns_);
    turn_back(spectra[0], begin, count, first.weighed);
    if (!alone) turn_back(spectra[1], begin, count, second.weighed);
  }
}

void Solver::predict_and_weigh(const Tile& tile, Task& first, Task& second) {
  const Stopwatch busy(busy_ns_);
  frame_tasks_ += &first == &second ? 1 : 2;
  predict_columns(tile, first, second);
  weigh_rows(tile, first, second);
}

/// Those that lie at the same frequencies, mirrored, are cleared, too.
void Solver::clear_columns(std::span<ComplexLines> sums, int begin, int count) const {
  for (ComplexLines& sum : sums) {
    for (int kx = begin; kx < begin + count; ++kx) {
      std::ranges::fill(sum.line(kx), std::complex<float>());
      if (has_mirror(kx)) std::ranges::fill(sum.line(sum.count() - kx), std::complex<float>());
    }
  }
}

/// The second half of the transforms of what was weighed, and the sums: of numerator + i
/// denominator, which are begun unless there are some. Where frequencies run backwards that of the
/// kernel is the conjugate.
void Solver::add_products(const Tile& tile, std::span<Task> tasks, std::span<ComplexLines> sums,
                          bool begun) {
  const Lines rows = data_rows(tile);
  const int width = plan_.transform.width, height = plan_.transform.height;
  parallel_for(block_count(*tasks[0].transfer), options_.threads, [&](int block) {
    const Stopwatch busy(busy_ns_);
    const LineFft fft(height);
    ComplexLines fields(1, height), spectra(2 * columns_at_once, height);
    fields.clear();
    const int begin = block * columns_at_once;
    const int count = std::min(columns_at_once, width / 2 + 1 - begin);
    // not all of them before, so that they are in the cache when they are added to
    if (!begun) clear_columns(sums, begin, count);
    // in the order of the frames, whatever the number of threads: the sums are rounded
    for (Task& task : tasks) {
      const auto field_of = [&](int column) {
        const auto data = task.weighed.line(column).first(static_cast<std::size_t>(rows.count()));
        copy_into(data, fields.line(0), rows.begin);
        return fields.line(0);
      };
      for (int i = 0; i < count; ++i) fetch(task.transfer->column(0, begin + i));
      {
        const Stopwatch transforming(transform_ns_);
        for (int i = 0; i < count; ++i) {
          const int kx = begin + i;
          fft.forward(field_of(kx), spectra.line(2 * i));
          if (has_mirror(kx)) fft.inverse(field_of(width - kx), spectra.line(2 * i + 1));
        }
      }
      ComplexLines& sum = sums[static_cast<std::size_t>(task.channel)];
      for (int i = 0; i < count; ++i) {
        const int kx = begin + i;
        const auto kernel = task.transfer->column(0, kx);
        add_product<true>(spectra.line(2 * i), kernel, sum.line(kx));
        if (has_mirror(kx))
          add_product<false>(spectra.line(2 * i + 1), kernel, sum.line(width - kx));
      }
    }
  });
  transforms_ += 2 * tasks.size();
}

void Solver::add_back(const Tile& tile, std::span<ComplexLines> sums) {
  const int width = plan_.transform.width, height = plan_.transform.height;
  const int used = tile.data.height * factor_ + 2 * reach_;
  for (int channel = 0; channel < channels_; ++channel) {
    ComplexLines& sum = sums[static_cast<std::size_t>(channel)];
    parallel_for((width + columns_at_once - 1) / columns_at_once, options_.threads, [&](int block) {
      const Stopwatch busy(busy_ns_);
      const Stopwatch transforming(transform_ns_);
      const LineFft fft(height);
      ComplexLines field(1, height);
      const int begin = block * columns_at_once;
      for (int x = begin; x < std::min(begin + columns_at_once, width); ++x) {
        if (x <= width / 2) {
          fft.inverse(sum.line(x), field.line(0));
        } else {
          fft.forward(sum.line(x), field.line(0));
        }
        copy_into(field.line(0), sum.line(x), 0);
      }
    });
    parallel_for((used + most_rows_at_once - 1) / most_rows_at_once, options_.threads, [&](int b) {
      const Stopwatch busy(busy_ns_);
      const LineFft fft(width);
      ComplexLines spectra(most_rows_at_once, width), fields(most_rows_at_once, width);
      const int begin = b * most_rows_at_once, count = std::min(most_rows_at_once, used - begin);
      {
        const Stopwatch transforming(transform_ns_);
        turn(sum, begin, count, spectra);
        for (int i = 0; i < count; ++i) fft.inverse(spectra.line(i), fields.line(i));
      }
      for (int i = 0; i < count; ++i) {
        const auto* values = reinterpret_cast<const float*>(fields.line(i).data());
        const int y = tile.data.y * factor_ + begin + i, x0 = tile.data.x * factor_;
        float* numerators = numerator_.view().row(channel, y).data() + x0;
        float* denominators = denominator_.view().row(channel, y).data() + x0;
        const auto columns =
            static_cast<std::size_t>(tile.data.width) * static_cast<std::size_t>(factor_) +
            2 * static_cast<std::size_t>(reach_);
        for (std::size_t x = 0; x < columns; ++x) {
          numerators[x] += values[2 * x];
          denominators[x] += values[2 * x + 1];
        }
      }
    });
    transforms_ += 2;
  }
}

}  // namespace limpid::multiframe
