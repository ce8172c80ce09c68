#include "multiframe/work_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <limpid/error.h>

#include "core/fft_columns.h"
#include "core/fft_lines.h"

namespace limpid::multiframe {
namespace {

/// Share of a cell's fade that has come at t in 0..1: a raised cosine.
float fade(float t) { return 0.5F - 0.5F * std::cos(3.14159265F * std::clamp(t, 0.0F, 1.0F)); }

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

std::string in_megabytes(std::size_t bytes) {
  return std::to_string(bytes / 1000000 + (bytes % 1000000 > 0 ? 1 : 0)) + " MB";
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

std::vector<Tile> cut(const WorkRequest& request, int parts_x, int parts_y) {
  std::vector<Tile> tiles;
  const int grid = request.psf_grid;
  const auto columns = axis_cells(request.frame.width, grid);
  const auto rows = axis_cells(request.frame.height, grid);
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

}  // namespace

WorkPlan plan_work(const WorkRequest& request) {
  const auto members = static_cast<std::size_t>(request.members);
  const auto channels = static_cast<std::size_t>(request.channels);
  // the estimate, the seed, and two sums or the result
  const std::size_t fixed = 4 * sizeof(float) * channels * request.canvas.pixels();
  const std::size_t frames = sizeof(float) * channels * members * request.frame.pixels();
  const auto cells =
      static_cast<std::size_t>(request.psf_grid) * static_cast<std::size_t>(request.psf_grid);
  const int most = request.batch_limit > 0 ? request.batch_limit : most_frames_at_once;
  std::size_t needed = 0;
  constexpr double infinite = std::numeric_limits<double>::infinity();
  double least_cost = infinite;
  WorkPlan best;
  for (int parts = 1;; ++parts) {
    WorkPlan plan;
    bool found = false;
    // as square as the frame allows
    const double aspect = static_cast<double>(request.frame.height) / request.frame.width;
    const int parts_y = std::max(1, static_cast<int>(std::lround(parts * aspect)));
    plan.tiles = cut(request, parts, parts_y);
    Size largest;
    for (const Tile& tile : plan.tiles) {
      largest.width = std::max(largest.width, tile.data.width);
      largest.height = std::max(largest.height, tile.data.height);
    }
    plan.transform = {fast_length(largest.width * request.factor + 2 * request.reach),
                      fast_length(largest.height * request.factor + 2 * request.reach)};
    const bool smallest =
        largest.width * request.factor <= 2 * request.reach || largest.width <= 32;
    const int limit = request.tile_limit > 0 ? request.tile_limit
                                             : std::max(preferred_transform, 8 * request.reach);
    const std::size_t spectrum = ColumnSpectrum::bytes(plan.transform);
    for (int batch = std::min(most, static_cast<int>(members)); batch >= 1; batch /= 2) {
      const auto b = static_cast<std::size_t>(batch);
      // the estimate and two sums, what is weighed (its margins are not kept), and what is made on
      // the way
      const std::size_t weighed =
          ComplexLines::bytes(plan.transform.width, largest.height * request.factor);
      const std::size_t work = spectrum * channels * (3 + 2) + weighed * channels * b +
                               4 * b * channels * sizeof(float) * largest.width * largest.height;
      const std::size_t all_transfers = spectrum * channels * members * cells;
      const std::size_t few_transfers = 2 * spectrum * channels * b;
      plan.frames_at_once = batch;
      plan.work_bytes = work;
      for (const auto& [keep_frames, keep_transfers] :
           {std::pair{true, true}, {false, true}, {true, false}, {false, false}}) {
        plan.keep_frames = keep_frames;
        plan.keep_transfers = keep_transfers;
        plan.bytes = fixed + work + (keep_frames ? frames : 0) +
                     (keep_transfers ? all_transfers : few_transfers);
        const bool fits = plan.bytes <= request.budget;
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
  if (least_cost < infinite) return best;
  throw Error(ErrorKind::exhausted, "the set needs " + in_megabytes(needed) +
                                        " beside the program; --memory allows " +
                                        in_megabytes(request.budget));
}

}  // namespace limpid::multiframe
