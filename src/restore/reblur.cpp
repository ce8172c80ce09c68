#include "restore/reblur.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/parallel.h"
#include "restore/geometry.h"
#include "restore/noise_model.h"
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

/// Squares of the residual in a cell, and its largest sum over a window in units of what noise
/// would give.
struct Sums {
  double all = 0, stars = 0, clipped_stars = 0, worst_window = 0;
  std::size_t star_pixels = 0, clipped_star_pixels = 0;
};

Sums sum_up(ConstView residual, ConstView at_stars, Rect cell) {
  Sums sums;
  for (int c = 0; c < residual.channels(); ++c) {
    for (int y = cell.y; y < cell.y + cell.height; ++y) {
      const auto row = residual.row(c, y), star = at_stars.row(0, y);
      for (auto x = static_cast<std::size_t>(cell.x);
           x < static_cast<std::size_t>(cell.x + cell.width); ++x) {
        const double square = static_cast<double>(row[x]) * static_cast<double>(row[x]);
        sums.all += square;
        if (star[x] == 1) {
          sums.stars += square;
          ++sums.star_pixels;
        } else if (star[x] == 2) {
          sums.clipped_stars += square;
          ++sums.clipped_star_pixels;
        }
      }
    }
    const int bottom = std::min(cell.y + cell.height, residual.height() - window_px + 1),
              right = std::min(cell.x + cell.width, residual.width() - window_px + 1);
    for (int y = cell.y; y < bottom; y += window_px / 2) {
      for (int x = cell.x; x < right; x += window_px / 2) {
        double sum = 0;
        for (int j = 0; j < window_px; ++j) {
          const auto row = residual.row(c, y + j).subspan(static_cast<std::size_t>(x), window_px);
          for (const float z : row) sum += static_cast<double>(z);
        }
        sums.worst_window = std::max(sums.worst_window, std::abs(sum) / window_px);
      }
    }
  }
  return sums;
}

}  // namespace

Reblurring test_by_reblurring(const ReblurInput& in, int threads, const Progress& progress) {
  const Size size = in.before.size();
  const StarCatalogue& catalogue = in.catalogue;
  const Image discs = star_discs(catalogue, in.fwhm_px, {0, 0, size.width, size.height}, threads);

  Reblurring result;
  result.residual = Image(in.before.channels(), size);
  const int columns = (size.width + tile_px - 1) / tile_px,
            rows = (size.height + tile_px - 1) / tile_px;
  Image at_stars(1, size);
  const TileTester tester(in, discs.view());
  parallel_for(columns * rows, threads, [&](int i) {
    progress.throw_if_stopped();
    const Rect tile = intersect({i % columns * tile_px, i / columns * tile_px, tile_px, tile_px},
                                {0, 0, size.width, size.height});
    const TileTest test = tester.test(tile, {tile_px, tile_px});
    for (int y = 0; y < tile.height; ++y) {
      const auto place = [&](MutableView whole, int c) {
        return whole.row(c, tile.y + y).begin() + tile.x;
      };
      for (int c = 0; c < in.before.channels(); ++c)
        std::ranges::copy(test.residual.view().row(c, y), place(result.residual.view(), c));
      std::ranges::copy(test.at_star.view().row(0, y), place(at_stars.view(), 0));
    }
    progress(static_cast<double>(i) / (columns * rows), "blurring the result again");
  });

  const int across = (size.width + cell_px - 1) / cell_px,
            down = (size.height + cell_px - 1) / cell_px;
  const auto cell_at = [&](int i) {
    return intersect({i % across * cell_px, i / across * cell_px, cell_px, cell_px},
                     {0, 0, size.width, size.height});
  };
  std::vector<Sums> sums(static_cast<std::size_t>(across * down));
  parallel_for(across * down, threads, [&](int i) {
    sums[static_cast<std::size_t>(i)] = sum_up(result.residual.view(), at_stars.view(), cell_at(i));
  });
  Sums total;
  ReblurReport& report = result.report;
  report.tiles = across * down;
  const double channels = in.before.channels();
  const auto reach = static_cast<float>(5 * in.fwhm_px);
  for (int i = 0; i < across * down; ++i) {
    const Sums& sum = sums[static_cast<std::size_t>(i)];
    total.all += sum.all;
    total.stars += sum.stars;
    total.star_pixels += sum.star_pixels;
    total.clipped_stars += sum.clipped_stars;
    total.clipped_star_pixels += sum.clipped_star_pixels;
    const double rms =
        std::sqrt(sum.all / (channels * static_cast<double>(cell_at(i).size().pixels())));
    if (rms > doubtful_rms || sum.worst_window > doubtful_window)
      report.doubtful.push_back({cell_at(i), rms, sum.worst_window,
                                 beside_clipped_star(in.catalogue, cell_at(i), reach)});
  }
  std::ranges::sort(report.doubtful, std::greater<>(), &DoubtfulTile::worst_sigma);
  report.residual_rms = std::sqrt(total.all / (channels * static_cast<double>(size.pixels())));
  const auto rms = [](double squares, std::size_t count) {
    return count > 0 ? std::sqrt(squares / static_cast<double>(count)) : 0;
  };
  report.star_residual_rms =
      rms(total.stars + total.clipped_stars, total.star_pixels + total.clipped_star_pixels);
  report.unclipped_star_residual_rms = rms(total.stars, total.star_pixels);
  return result;
}

}  // namespace limpid
