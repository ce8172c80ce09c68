#include "restore/reblur.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <numeric>
#include <span>
#include <vector>

#include "core/lanes.h"
#include "core/parallel.h"
#include "restore/geometry.h"
#include "restore/reblur_tile.h"

namespace limpid {
namespace {

constexpr int tile_px = 192;
constexpr int cell_px = 64;            // of the list of doubtful places
constexpr double doubtful_rms = 1.5;   // right ones have 0.5 to 1
constexpr int window_px = 6;           // about a star: what differs there together is no noise
constexpr double doubtful_window = 8;  // sigma of the sum over a window

bool beside_clipped_star(const StarCatalogue& catalogue, Rect place, float reach) {
  return std::ranges::any_of(catalogue.stars, [&](const Star& star) {
    const float x = star.x - static_cast<float>(place.x), y = star.y - static_cast<float>(place.y);
    return star.saturated && x > -reach && y > -reach &&
           x < static_cast<float>(place.width) + reach &&
           y < static_cast<float>(place.height) + reach;
  });
}

/// What the test says of the whole width of the frame, over some height.
struct Band {
  MutableView residual;
  Image own_residual;  ///< unless that of the frame is kept
  Image at_star;
};

/// The frame's rows of what the test says: those of the bands that there are.
class TestRows {
 public:
  explicit TestRows(const std::vector<Band>& bands) : bands_(bands) {}
  [[nodiscard]] std::span<const float> residual(int channel, int y) const {
    return band(y).residual.row(channel, y % tile_px);
  }
  [[nodiscard]] std::span<const float> at_star(int y) const {
    return band(y).at_star.view().row(0, y % tile_px);
  }

 private:
  [[nodiscard]] const Band& band(int y) const {
    return bands_[static_cast<std::size_t>(y / tile_px)];
  }
  const std::vector<Band>& bands_;
};

/// Squares of the residual in a cell, and its largest sum over a window in units of what noise
/// would give.
struct Sums {
  double all = 0, stars = 0, clipped_stars = 0, worst_window = 0;
  double star_pixels = 0, clipped_star_pixels = 0;
};

double sum_of(FloatLanes values) {
  double sum = 0;
  for (int lane = 0; lane < float_lane_count; ++lane) sum += static_cast<double>(values[lane]);
  return sum;
}

void add_squares(const TestRows& rows, int channel, Rect cell, Sums& sums) {
  FloatLanes all{}, stars{}, clipped_stars{}, pixels{}, clipped_pixels{};
  for (int y = cell.y; y < cell.y + cell.height; ++y) {
    const float *from = &rows.residual(channel, y)[static_cast<std::size_t>(cell.x)],
                *at_star = &rows.at_star(y)[static_cast<std::size_t>(cell.x)];
    for (int x = 0; x < cell.width; x += float_lane_count) {
      const auto count = static_cast<std::size_t>(std::min(float_lane_count, cell.width - x));
      const FloatLanes value = load_some(from + x, count), square = value * value,
                       star = load_some(at_star + x, count), none{};
      all += square;
      stars += star == 1 ? square : none;
      clipped_stars += star == 2 ? square : none;
      pixels += star == 1 ? none + 1 : none;
      clipped_pixels += star == 2 ? none + 1 : none;
    }
  }
  sums.all += sum_of(all);
  sums.stars += sum_of(stars);
  sums.clipped_stars += sum_of(clipped_stars);
  sums.star_pixels += sum_of(pixels);
  sums.clipped_star_pixels += sum_of(clipped_pixels);
}

/// Looks at the windows that begin in a cell.
void find_worst_window(const TestRows& rows, int channel, Rect cell, Size frame, Sums& sums) {
  const int bottom = std::min(cell.y + cell.height, frame.height - window_px + 1),
            right = std::min(cell.x + cell.width, frame.width - window_px + 1);
  std::array<float, cell_px + window_px> columns{};
  for (int y = cell.y; y < bottom; y += window_px / 2) {
    columns.fill(0);
    const int width = std::min(cell.width + window_px, frame.width - cell.x);
    for (int j = 0; j < window_px; ++j) {
      const float* row = &rows.residual(channel, y + j)[static_cast<std::size_t>(cell.x)];
      for (int x = 0; x < width; ++x) columns[static_cast<std::size_t>(x)] += row[x];
    }
    for (int x = 0; x < right - cell.x; x += window_px / 2) {
      const float* first = &columns[static_cast<std::size_t>(x)];
      const float sum = std::accumulate(first, first + window_px, 0.0F);
      sums.worst_window =
          std::max(sums.worst_window, static_cast<double>(std::abs(sum)) / window_px);
    }
  }
}

Sums sum_up(const TestRows& rows, int channels, Rect cell, Size frame) {
  Sums sums;
  for (int c = 0; c < channels; ++c) {
    add_squares(rows, c, cell, sums);
    find_worst_window(rows, c, cell, frame, sums);
  }
  return sums;
}

/// The frame in squares, which are cut at its edges.
class Squares {
 public:
  Squares(Size frame, int side)
      : columns((frame.width + side - 1) / side),
        rows((frame.height + side - 1) / side),
        frame_(frame),
        side_(side) {}
  [[nodiscard]] int count() const { return columns * rows; }
  [[nodiscard]] Rect operator[](int i) const {
    return intersect({i % columns * side_, i / columns * side_, side_, side_},
                     {0, 0, frame_.width, frame_.height});
  }
  const int columns, rows;

 private:
  Size frame_;
  int side_;
};

ReblurReport report_of(const ReblurInput& in, const Squares& cells, const std::vector<Sums>& sums) {
  Sums total;
  ReblurReport report;
  report.tiles = cells.count();
  const double channels = in.before.channels();
  const auto reach = static_cast<float>(5 * in.fwhm_px);
  const auto rms = [](double squares, double count) {
    return count > 0 ? std::sqrt(squares / count) : 0;
  };
  const auto values_in = [&](Size size) { return channels * static_cast<double>(size.pixels()); };
  for (int i = 0; i < cells.count(); ++i) {
    const Sums& sum = sums[static_cast<std::size_t>(i)];
    total.all += sum.all;
    total.stars += sum.stars;
    total.star_pixels += sum.star_pixels;
    total.clipped_stars += sum.clipped_stars;
    total.clipped_star_pixels += sum.clipped_star_pixels;
    const double of_cell = rms(sum.all, values_in(cells[i].size()));
    if (of_cell > doubtful_rms || sum.worst_window > doubtful_window)
      report.doubtful.push_back({cells[i], of_cell, sum.worst_window,
                                 beside_clipped_star(in.catalogue, cells[i], reach)});
  }
  std::ranges::sort(report.doubtful, std::greater<>(), &DoubtfulTile::worst_sigma);
  report.residual_rms = rms(total.all, values_in(in.before.size()));
  report.star_residual_rms =
      rms(total.stars + total.clipped_stars, total.star_pixels + total.clipped_star_pixels);
  report.unclipped_star_residual_rms = rms(total.stars, total.star_pixels);
  return report;
}

}  // namespace

Reblurring test_by_reblurring(const ReblurInput& in, int threads, const Progress& progress) {
  static_assert(tile_px % cell_px == 0, "a row of tiles is made of rows of cells");
  const Size size = in.before.size();
  const int channels = in.before.channels();
  const Squares tiles(size, tile_px), cells(size, cell_px);
  Reblurring result;
  if (in.keep_residual) result.residual = Image::unset(channels, size);

  // few of them are there at a time: all take more memory than the frame
  std::vector<Band> bands(static_cast<std::size_t>(tiles.rows));
  std::mutex mutex;
  const auto band_of = [&](Rect tile) -> Band& {
    Band& band = bands[static_cast<std::size_t>(tile.y / tile_px)];
    const std::scoped_lock lock(mutex);
    if (!band.residual.empty()) return band;
    const Rect place{0, tile.y, size.width, tile.height};
    if (!in.keep_residual) band.own_residual = Image::unset(channels, place.size());
    band.residual =
        in.keep_residual ? result.residual.view().crop(place) : band.own_residual.view();
    band.at_star = Image::unset(1, place.size());
    return band;
  };
  std::vector<Sums> sums(static_cast<std::size_t>(cells.count()));
  RowsInOrder order(tiles.rows, tiles.columns, [&](int row) {
    const int in_row = tile_px / cell_px * cells.columns,
              end = std::min((row + 1) * in_row, cells.count());
    for (int i = row * in_row; i < end; ++i)
      sums[static_cast<std::size_t>(i)] = sum_up(TestRows(bands), channels, cells[i], size);
    bands[static_cast<std::size_t>(row)] = {};
  });
  const TileTester tester(in);
  parallel_for(tiles.count(), threads, [&](int i) {
    progress.throw_if_stopped();
    const Rect tile = tiles[i], in_band{tile.x, 0, tile.width, tile.height};
    Band& band = band_of(tile);
    tester.test(tile, {tile_px, tile_px},
                {band.residual.crop(in_band), band.at_star.view().crop(in_band)});
    order.complete_tile(tile.y / tile_px);
    progress(static_cast<double>(i) / tiles.count(), "blurring the result again");
  });
  result.report = report_of(in, cells, sums);
  return result;
}

}  // namespace limpid
