#include "measure/sky.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <Eigen/Dense>

#include "core/lanes.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/mesh.h"

namespace limpid {
namespace {

constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

struct CellNoise {
  float level, sigma;
};

/// Standard deviation of a normal distribution after cutting it at 3 sigma, in sigmas.
constexpr double three_sigma_cut = 0.986578;

/// The pixels of a cell less their median, row by row; NaN where there is none and behind each row,
/// so that rows are whole numbers of `lanes`.
struct CellPixels {
  static constexpr std::size_t lanes = float_lane_count;
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
  constexpr FloatLanes places{0, 1, 2, 3, 4, 5, 6, 7};
  const float x_middle = 0.5F * static_cast<float>(cell.width);
  const auto limit = static_cast<float>(reach), slope = static_cast<float>(plane[1]);
  PlaneSums sums;
  for (std::size_t row = 0; row < cell.height; ++row) {
    const double y = static_cast<double>(row) - 0.5 * static_cast<double>(cell.height);
    const auto start = static_cast<float>(plane[0] + y * plane[2]);
    const std::size_t stride = cell.values.size() / cell.height;
    const float* values = cell.values.data() + row * stride;
    // a lane holds a few pixels, so that single precision does
    FloatLanes n{}, sx{}, sxx{}, sr{}, srx{}, srr{};
    for (std::size_t first = 0; first < stride; first += lanes) {
      const FloatLanes x = places + (static_cast<float>(first) - x_middle);
      const FloatLanes off = load_floats(values + first) - start - x * slope;
      const auto inside = (off < 0 ? -off : off) <= limit;  // not for NaN
      const FloatLanes weight = inside ? 1 + FloatLanes{} : FloatLanes{},
                       r = inside ? off : FloatLanes{}, weighted_x = weight * x;
      n += weight;
      sx += weighted_x;
      sxx += weighted_x * x;
      sr += r;
      srx += r * x;
      srr += r * r;
    }
    const auto total = [](const FloatLanes& parts) {
      const Lanes four =
          __builtin_convertvector(__builtin_shufflevector(parts, parts, 0, 1, 2, 3), Lanes) +
          __builtin_convertvector(__builtin_shufflevector(parts, parts, 4, 5, 6, 7), Lanes);
      return (four[0] + four[1]) + (four[2] + four[3]);
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
  std::vector<float> known(cell.size().pixels());
  std::size_t count = 0;
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
      const bool seen = std::isfinite(value) && coverage.covers(x, y);
      pixels.values[row * stride + column] = seen ? value : no_data;
      known[count] = value;
      count += seen ? 1 : 0;
    }
  }
  known.resize(count);
  if (known.size() * 2 < cell.size().pixels() || known.size() < 8) return {no_data, no_data};
  const auto [lowest, highest] = range_of(known);
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

SkyLevel measure_sky_channel(ConstView channel, const Coverage& coverage, int threads) {
  constexpr int cell_px = 32, most_cells = 600;
  const Size cells{std::max(1, channel.width() / cell_px), std::max(1, channel.height() / cell_px)};
  const int count = static_cast<int>(cells.pixels()), chosen = std::min(count, most_cells);
  std::vector<CellNoise> found(static_cast<std::size_t>(chosen));
  const auto look_at = [&](int i) {
    // Fibonacci hashing spreads the chosen cells over the frame without a pattern.
    const int index = count <= most_cells ? i
                                          : static_cast<int>(static_cast<std::uint64_t>(
                                                std::fmod(i * 0.6180339887498949, 1.0) * count));
    found[static_cast<std::size_t>(i)] =
        cell_noise(channel, coverage,
                   cell_rect(channel.size(), cells, index % cells.width, index / cells.width));
  };
  constexpr int share = 32;
  parallel_for((chosen + share - 1) / share, threads, [&](int part) {
    for (int i = share * part; i < std::min(chosen, share * (part + 1)); ++i) look_at(i);
  });
  std::erase_if(found, [](const CellNoise& cell) { return std::isnan(cell.sigma); });
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
  sigmas.reserve(found.size());
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
    sky[static_cast<std::size_t>(channel)] = measure_sky_channel(view, Coverage(view), 1);
  });
  return sky;
}

}  // namespace limpid
