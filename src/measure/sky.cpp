#include "measure/sky.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include <Eigen/Dense>

#include "core/parallel.h"
#include "core/statistics.h"

namespace limpid {
namespace {

constexpr int shortest_border_px = 4;
constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

/// Length of the run of NaN and `value` at the beginning of `count` pixels, `step` apart.
int border_run(const float* first, std::ptrdiff_t step, int count, float value) {
  int run = 0, equal = 0;
  for (; run < count; ++run) {
    const float pixel = first[run * step];
    if (pixel == value)
      ++equal;
    else if (!std::isnan(pixel))
      break;
  }
  return equal == 0 || run >= shortest_border_px ? run : 0;
}

}  // namespace

Coverage::Coverage(ConstView channel)
    : left_(static_cast<std::size_t>(channel.height()), 0),
      right_(left_.size(), channel.width()),
      top_(static_cast<std::size_t>(channel.width()), 0),
      bottom_(top_.size(), channel.height()) {
  for (const float value : {0.0F, 1.0F}) find_border(channel, value);
}

Coverage::Coverage(Size size, std::span<const int> edges) {
  const auto width = static_cast<std::size_t>(size.width),
             height = static_cast<std::size_t>(size.height);
  const auto take = [&](std::vector<int>& to, std::size_t count) {
    to.assign(edges.begin(), edges.begin() + static_cast<std::ptrdiff_t>(count));
    edges = edges.subspan(count);
  };
  take(left_, height);
  take(right_, height);
  take(top_, width);
  take(bottom_, width);
}

std::vector<int> Coverage::edges() const {
  std::vector<int> all = left_;
  for (const auto* part : {&right_, &top_, &bottom_})
    all.insert(all.end(), part->begin(), part->end());
  return all;
}

void Coverage::find_border(ConstView channel, float value) {
  const int width = channel.width(), height = channel.height();
  const std::ptrdiff_t stride = channel.row_stride();
  const Coverage before = *this;
  for (int y = 0; y < height; ++y) {
    const float* row = channel.row(0, y).data();
    const auto line = static_cast<std::size_t>(y);
    left_[line] = std::max(left_[line], border_run(row, 1, width, value));
    right_[line] = std::min(right_[line], width - border_run(row + width - 1, -1, width, value));
  }
  for (int x = 0; x < width; ++x) {
    const float* first = channel.row(0, 0).data() + x;
    const auto column = static_cast<std::size_t>(x);
    top_[column] = std::max(top_[column], border_run(first, stride, height, value));
    bottom_[column] = std::min(bottom_[column], height - border_run(first + (height - 1) * stride,
                                                                    -stride, height, value));
  }
  // Short white runs from less than a tenth of a side are a clipped star that the side cuts.
  if (value == 1.0F) {
    struct Side {
      std::vector<int> Coverage::*runs;
      int across;
    };
    for (const auto& [runs, across] :
         {Side{&Coverage::left_, width}, Side{&Coverage::right_, width},
          Side{&Coverage::top_, height}, Side{&Coverage::bottom_, height}}) {
      std::vector<int>& found = this->*runs;
      const std::vector<int>& known = before.*runs;
      const auto is_short = [&](std::size_t i) {
        return found[i] != known[i] && 4 * std::abs(found[i] - known[i]) < across;
      };
      std::size_t lines = 0;
      for (std::size_t i = 0; i < found.size(); ++i) lines += is_short(i) ? 1 : 0;
      if (10 * lines >= found.size()) continue;
      for (std::size_t i = 0; i < found.size(); ++i) {
        if (is_short(i)) found[i] = known[i];
      }
    }
  }
  int inside = 0, equal = 0;
  for (int y = 0; y < height; y += 3) {
    for (int x = 0; x < width; x += 3) {
      if (!covers(x, y)) continue;
      ++inside;
      equal += channel(0, y, x) == value ? 1 : 0;
    }
  }
  if (equal > inside / 50) *this = before;
}

// ---- the mesh

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

std::vector<float> samples_of(ConstView channel, const Coverage& coverage, Rect cell, int step) {
  std::vector<float> samples;
  for (int y = cell.y; y < cell.y + cell.height; y += step) {
    const auto row = channel.row(0, y);
    for (int x = cell.x; x < cell.x + cell.width; x += step) {
      const float value = row[static_cast<std::size_t>(x)];
      if (std::isfinite(value) && coverage.covers(x, y)) samples.push_back(value);
    }
  }
  return samples;
}

Rect cell_rect(Size frame, Size cells, int column, int row) {
  const auto edge = [](int length, int count, int i) {
    return static_cast<int>(static_cast<std::int64_t>(length) * i / count);
  };
  const int x = edge(frame.width, cells.width, column), y = edge(frame.height, cells.height, row);
  return {x, y, edge(frame.width, cells.width, column + 1) - x,
          edge(frame.height, cells.height, row + 1) - y};
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

Mesh::Mesh(ConstView channel, const Coverage& coverage, int cell_px, CellStatistic statistic,
           int threads)
    : cells_{std::max(1, channel.width() / cell_px), std::max(1, channel.height() / cell_px)},
      frame_(channel.size()),
      values_(cells_.pixels(), no_data),
      stretch_ends_(static_cast<std::size_t>(cells_.width), 0) {
  // 256 samples give the level to 8 % of the noise, which the smoothing halves.
  const int step = std::max(1, cell_px / 16);
  parallel_for(cells_.height, threads, [&](int row) {
    for (int column = 0; column < cells_.width; ++column) {
      const Rect cell = cell_rect(frame_, cells_, column, row);
      auto samples = samples_of(channel, coverage, cell, step);
      const auto wanted = static_cast<std::size_t>(cell.width / step) *
                          static_cast<std::size_t>(cell.height / step) / 4;
      if (samples.empty() || samples.size() < wanted) continue;
      values_[static_cast<std::size_t>(row) * static_cast<std::size_t>(cells_.width) +
              static_cast<std::size_t>(column)] = statistic(samples);
    }
  });
  fill_empty_cells();
  smooth();
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
void Mesh::smooth() {
  constexpr float reach_sigma = 2;
  const std::vector<float> raw = values_;
  for (int y = 0; y < cells_.height; ++y) {
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
  }
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

// ---- level and noise

namespace {

struct CellNoise {
  float level, sigma;
};

/// Standard deviation of a normal distribution after cutting it at 3 sigma, in sigmas.
constexpr double three_sigma_cut = 0.986578;

/// The pixels of a cell less their median, row by row; NaN where there is none and behind each row,
/// so that rows are whole numbers of `lanes`.
struct CellPixels {
  static constexpr std::size_t lanes = 8;
  std::vector<float> values;
  std::size_t width = 0, height = 0;
};

/// Sums over the pixels that lie within `reach` of a plane: 1, x, y, their products, and the same
/// times the residual. x and y are counted from the cell's centre.
struct PlaneSums {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0, r = 0, rx = 0, ry = 0, rr = 0;
};
PlaneSums sum_about(const CellPixels& cell, const Eigen::Vector3d& plane, double reach) {
  constexpr std::size_t lanes = CellPixels::lanes;
  const float x_middle = 0.5F * static_cast<float>(cell.width);
  const auto limit = static_cast<float>(reach), slope = static_cast<float>(plane[1]);
  PlaneSums sums;
  for (std::size_t row = 0; row < cell.height; ++row) {
    const double y = static_cast<double>(row) - 0.5 * static_cast<double>(cell.height);
    const auto start = static_cast<float>(plane[0] + y * plane[2]);
    const std::size_t stride = cell.values.size() / cell.height;
    const float* values = cell.values.data() + row * stride;
    // a lane holds a few pixels, so that single precision does
    std::array<float, lanes> n{}, sx{}, sxx{}, sr{}, srx{}, srr{};
    for (std::size_t first = 0; first < stride; first += lanes) {
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        const float x = static_cast<float>(first + lane) - x_middle;
        const float off = values[first + lane] - start - x * slope;
        const bool inside = std::abs(off) <= limit;  // not for NaN
        const float weight = inside ? 1.0F : 0.0F, r = inside ? off : 0.0F;
        n[lane] += weight;
        sx[lane] += weight * x;
        sxx[lane] += weight * x * x;
        sr[lane] += r;
        srx[lane] += r * x;
        srr[lane] += r * r;
      }
    }
    const auto total = [](const std::array<float, lanes>& parts) {
      return std::accumulate(parts.begin(), parts.end(), 0.0);
    };
    const double count = total(n), along = total(sx), off = total(sr);
    sums.n += count;
    sums.x += along;
    sums.y += count * y;
    sums.xx += total(sxx);
    sums.xy += along * y;
    sums.yy += count * y * y;
    sums.r += off;
    sums.rx += total(srx);
    sums.ry += off * y;
    sums.rr += total(srr);
  }
  return sums;
}

/// Scatter of the pixels about a plane, without what sticks out over 3 sigma. All scatter counts,
/// also what neighbours share: differences of neighbours would miss that in resampled frames.
CellNoise cell_noise(ConstView channel, const Coverage& coverage, Rect cell) {
  std::vector<float> known;
  known.reserve(cell.size().pixels());
  CellPixels pixels;
  pixels.width = static_cast<std::size_t>(cell.width);
  pixels.height = static_cast<std::size_t>(cell.height);
  const std::size_t stride =
      (pixels.width + CellPixels::lanes - 1) / CellPixels::lanes * CellPixels::lanes;
  pixels.values.assign(stride * pixels.height, no_data);
  for (std::size_t row = 0; row < pixels.height; ++row) {
    const int y = cell.y + static_cast<int>(row);
    for (std::size_t column = 0; column < pixels.width; ++column) {
      const int x = cell.x + static_cast<int>(column);
      const float value = channel(0, y, x);
      if (!std::isfinite(value) || !coverage.covers(x, y)) continue;
      pixels.values[row * stride + column] = value;
      known.push_back(value);
    }
  }
  if (known.size() * 2 < cell.size().pixels() || known.size() < 8) return {no_data, no_data};
  const auto [lowest, highest] = std::ranges::minmax(known);
  const Spread spread = robust_spread(known);
  for (float& value : pixels.values) value -= spread.median;
  Eigen::Vector3d plane(0, 0, 0);
  double sigma = static_cast<double>(spread.sigma);
  for (int round = 0; round < 8; ++round) {
    // A few levels only: the median deviation is 0 while the pixels do differ.
    const double reach = sigma > 0 ? 3 * sigma : double{std::numeric_limits<float>::max()};
    const PlaneSums sums = sum_about(pixels, plane, reach);
    if (sums.n < 6) break;
    const Eigen::Matrix3d normal{
        {sums.n, sums.x, sums.y}, {sums.x, sums.xx, sums.xy}, {sums.y, sums.xy, sums.yy}};
    const Eigen::Vector3d right(sums.r, sums.rx, sums.ry);
    const Eigen::Vector3d change = normal.ldlt().solve(right);
    const double left = std::max(sums.rr - change.dot(right), 0.0);
    const double next = std::sqrt(left / (sums.n - 3)) / (sigma > 0 ? three_sigma_cut : 1.0);
    plane += change;
    const bool settled = std::abs(next - sigma) <= 1e-3 * next;
    sigma = next;
    if (settled) break;
  }
  // Of equal values with a few outliers nothing but rounding is left.
  const double rounding =
      1e-6 * static_cast<double>(std::max({std::abs(lowest), std::abs(highest), highest - lowest}));
  return {static_cast<float>(static_cast<double>(spread.median) + plane[0]),
          sigma > rounding ? static_cast<float>(sigma) : 0.0F};
}

/// Where most of the sky has one value, the noise hides in the step to the next: a uniform error of
/// one step has the standard deviation step / sqrt(12). 0 for a constant channel.
float quantisation_noise(ConstView channel, float level) {
  float step = std::numeric_limits<float>::infinity();
  for (int y = 0; y < channel.height(); ++y) {
    for (const float value : channel.row(0, y)) {
      const float difference = std::abs(value - level);
      if (difference > 4e-6F * std::abs(level)) step = std::min(step, difference);
    }
  }
  return std::isfinite(step) ? step / std::sqrt(12.0F) : 0.0F;
}

}  // namespace

SkyLevel measure_sky_channel(ConstView channel, const Coverage& coverage) {
  constexpr int cell_px = 32, most_cells = 600;
  const Size cells{std::max(1, channel.width() / cell_px), std::max(1, channel.height() / cell_px)};
  const int count = static_cast<int>(cells.pixels());
  std::vector<CellNoise> found;
  for (int i = 0; i < std::min(count, most_cells); ++i) {
    // Fibonacci hashing spreads the chosen cells over the frame without a pattern.
    const int index = count <= most_cells ? i
                                          : static_cast<int>(static_cast<std::uint64_t>(
                                                std::fmod(i * 0.6180339887498949, 1.0) * count));
    const CellNoise noise =
        cell_noise(channel, coverage,
                   cell_rect(channel.size(), cells, index % cells.width, index / cells.width));
    if (!std::isnan(noise.sigma)) found.push_back(noise);
  }
  if (found.empty()) {
    std::vector<float> values;
    for (int y = 0; y < channel.height(); ++y) {
      for (const float value : channel.row(0, y)) {
        if (std::isfinite(value)) values.push_back(value);
      }
    }
    return values.empty() ? SkyLevel{} : SkyLevel{median_in_place(values), 0};
  }
  std::vector<float> sigmas;
  for (const CellNoise& cell : found) sigmas.push_back(cell.sigma);
  // Stars, galaxies and nebulae only ever add scatter: the quiet cells are those near the lower
  // quartile. 15 %: four times the error of one cell's sigma, 1/sqrt(2 * 1024), and a little more.
  const float quiet = 1.15F * quantile(sigmas, 0.25);
  std::vector<float> quiet_sigmas, quiet_levels;
  for (const CellNoise& cell : found) {
    if (cell.sigma > quiet) continue;
    quiet_sigmas.push_back(cell.sigma);
    quiet_levels.push_back(cell.level);
  }
  const float level = median_in_place(quiet_levels), sigma = median_in_place(quiet_sigmas);
  return {level, sigma > 0 ? sigma : quantisation_noise(channel, level)};
}

std::vector<SkyLevel> measure_sky(ConstView frame) {
  std::vector<SkyLevel> sky(static_cast<std::size_t>(frame.channels()));
  if (frame.empty()) return sky;
  parallel_for(frame.channels(), 0, [&](int channel) {
    const ConstView view = frame.channel(channel);
    sky[static_cast<std::size_t>(channel)] = measure_sky_channel(view, Coverage(view));
  });
  return sky;
}

}  // namespace limpid
