#include "measure/mesh.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/parallel.h"
#include "core/statistics.h"

namespace limpid {

/// Mode of the clipped samples by 2.5 median - 1.5 mean, and the median where they are too skewed
/// for that to hold (Bertin & Arnouts 1996, A&AS 117, 393, section 3).
float sky_level(std::span<float> samples) {
  const Clipped clipped = sigma_clip(samples, {.max_iterations = 3});
  if (std::abs(clipped.mean - clipped.median) < 0.3F * clipped.sigma) {
    return 2.5F * clipped.median - 1.5F * clipped.mean;
  }
  return clipped.median;
}

namespace {

/// `samples` keeps its memory from cell to cell.
void take_samples(ConstView channel, const Coverage& coverage, Rect cell, int step,
                  std::vector<float>& samples) {
  samples.resize(cell.size().pixels());
  std::size_t count = 0;
  for (int y = cell.y; y < cell.y + cell.height; y += step) {
    const auto row = channel.row(0, y);
    for (int x = cell.x; x < cell.x + cell.width; x += step) {
      const float value = row[static_cast<std::size_t>(x)];
      samples[count] = value;
      count += std::isfinite(value) && coverage.covers(x, y) ? 1 : 0;
    }
  }
  samples.resize(count);
}

/// How far, in cells, a pixel lies behind the middle of the first, up to that of the last.
float cells_along(float position, int length, int count) {
  const float cell =
      (position + 0.5F) * static_cast<float>(count) / static_cast<float>(length) - 0.5F;
  return std::clamp(cell, 0.0F, static_cast<float>(count - 1));
}

/// Where a pixel lies between the centres of the cells along one axis.
struct Between {
  std::size_t first, second;
  float part;
};
Between between_cells(float position, int length, int count) {
  const float inside = cells_along(position, length, count);
  const auto first = static_cast<std::size_t>(inside);
  return {first, std::min(first + 1, static_cast<std::size_t>(count - 1)),
          inside - static_cast<float>(first)};
}

}  // namespace

Rect cell_rect(Size frame, Size cells, int column, int row) {
  const auto edge = [](int length, int count, int i) {
    return static_cast<int>(static_cast<std::int64_t>(length) * i / count);
  };
  const int x = edge(frame.width, cells.width, column), y = edge(frame.height, cells.height, row);
  return {x, y, edge(frame.width, cells.width, column + 1) - x,
          edge(frame.height, cells.height, row + 1) - y};
}

Mesh::Mesh(ConstView channel, const Coverage& coverage, int cell_px, CellStatistic statistic,
           int threads)
    : cells_{std::max(1, channel.width() / cell_px), std::max(1, channel.height() / cell_px)},
      frame_(channel.size()),
      values_(cells_.pixels(), std::numeric_limits<float>::quiet_NaN()),
      stretch_ends_(static_cast<std::size_t>(cells_.width), 0) {
  // 256 samples give the level to 8 % of the noise, which the smoothing halves.
  const int step = std::max(1, cell_px / 16);
  parallel_for(cells_.height, threads, [&](int row) {
    std::vector<float> samples;
    for (int column = 0; column < cells_.width; ++column) {
      const Rect cell = cell_rect(frame_, cells_, column, row);
      take_samples(channel, coverage, cell, step, samples);
      const auto wanted = static_cast<std::size_t>(cell.width / step) *
                          static_cast<std::size_t>(cell.height / step) / 4;
      if (samples.empty() || samples.size() < wanted) continue;
      values_[static_cast<std::size_t>(row) * static_cast<std::size_t>(cells_.width) +
              static_cast<std::size_t>(column)] = statistic(samples);
    }
  });
  fill_empty_cells();
  smooth(threads);
  for (int x = 0; x < frame_.width; ++x) {
    const Between u = between_cells(static_cast<float>(x), frame_.width, cells_.width);
    stretch_ends_[u.first] = x + 1;
  }
}

/// Each pass gives the cells next to known ones the mean of these.
void Mesh::fill_empty_cells() {
  const auto at = [this](int x, int y) {
    return static_cast<std::size_t>(y) * static_cast<std::size_t>(cells_.width) +
           static_cast<std::size_t>(x);
  };
  for (bool again = true; again;) {
    again = false;
    bool grew = false;
    const std::vector<float> known = values_;
    for (int y = 0; y < cells_.height; ++y) {
      for (int x = 0; x < cells_.width; ++x) {
        if (!std::isnan(known[at(x, y)])) continue;
        float sum = 0;
        int count = 0;
        for (int v = std::max(0, y - 1); v <= std::min(cells_.height - 1, y + 1); ++v) {
          for (int u = std::max(0, x - 1); u <= std::min(cells_.width - 1, x + 1); ++u) {
            if (std::isnan(known[at(u, v)])) continue;
            sum += known[at(u, v)];
            ++count;
          }
        }
        if (count > 0) values_[at(x, y)] = sum / static_cast<float>(count);
        (count > 0 ? grew : again) = true;
      }
    }
    again = again && grew;
  }
}

/// Pulls in cells that stick out from the nine around them further than these scatter, as those do
/// that a bright star or a galaxy has lifted; the slopes and crests of nebulae stay.
void Mesh::smooth(int threads) {
  constexpr float reach_sigma = 2;
  const std::vector<float> raw = values_;
  parallel_for(cells_.height, threads, [&](int y) {
    for (int x = 0; x < cells_.width; ++x) {
      std::array<float, 9> around{};
      std::size_t count = 0;
      for (int v = std::max(0, y - 1); v <= std::min(cells_.height - 1, y + 1); ++v) {
        for (int u = std::max(0, x - 1); u <= std::min(cells_.width - 1, x + 1); ++u) {
          around[count++] =
              raw[static_cast<std::size_t>(v) * static_cast<std::size_t>(cells_.width) +
                  static_cast<std::size_t>(u)];
        }
      }
      const Spread spread = robust_spread(std::span(around.data(), count));
      const float reach = reach_sigma * spread.sigma;
      float& value = values_[static_cast<std::size_t>(y) * static_cast<std::size_t>(cells_.width) +
                             static_cast<std::size_t>(x)];
      if (!std::isnan(value))
        value = std::clamp(value, spread.median - reach, spread.median + reach);
    }
  });
}

float Mesh::at(float x, float y) const {
  const Between u = between_cells(x, frame_.width, cells_.width);
  const Between v = between_cells(y, frame_.height, cells_.height);
  const auto line = [&](std::size_t row) {
    const float* cells = values_.data() + row * static_cast<std::size_t>(cells_.width);
    return cells[u.first] + u.part * (cells[u.second] - cells[u.first]);
  };
  const float above = line(v.first);
  return above + v.part * (line(v.second) - above);
}

void Mesh::fill_row(int y, std::span<float> row) const {
  const Between v = between_cells(static_cast<float>(y), frame_.height, cells_.height);
  std::vector<float> line(static_cast<std::size_t>(cells_.width));
  for (std::size_t i = 0; i < line.size(); ++i) {
    const float above = values_[v.first * line.size() + i];
    line[i] = above + v.part * (values_[v.second * line.size() + i] - above);
  }
  // stretch by stretch of pixels between the same cells
  int x = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const float from = line[i], rise = line[std::min(i + 1, line.size() - 1)] - from;
    for (; x < stretch_ends_[i]; ++x) {
      const float along = cells_along(static_cast<float>(x), frame_.width, cells_.width);
      row[static_cast<std::size_t>(x)] = from + (along - static_cast<float>(i)) * rise;
    }
  }
}

}  // namespace limpid
