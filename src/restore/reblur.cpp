#include "restore/reblur.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/fft.h"
#include "core/parallel.h"
#include "restore/geometry.h"
#include "restore/noise_model.h"
#include "restore/normalise.h"

namespace limpid {
namespace {

constexpr int tile_px = 192, margin_px = psf_kernel_px / 2;
constexpr int cell_px = 64;            // of the list of doubtful places
constexpr double doubtful_rms = 1.5;   // right ones have 0.5 to 1
constexpr int window_px = 6;           // about a star: what differs there together is no noise
constexpr double doubtful_window = 8;  // sigma of the sum over a window
constexpr float psf_known_to = 0.02F;  // of a star's light
constexpr float bright_sigma = 10;     // pixels of stars that are judged apart

bool beside_clipped_star(const StarCatalogue& catalogue, Rect place, float reach) {
  return std::ranges::any_of(catalogue.stars, [&](const Star& star) {
    const float x = star.x - static_cast<float>(place.x), y = star.y - static_cast<float>(place.y);
    return star.saturated && x > -reach && y > -reach &&
           x < static_cast<float>(place.width) + reach &&
           y < static_cast<float>(place.height) + reach;
  });
}

/// The result in a tile, its margin included, blurred back to the measured PSFs.
struct Blurred {
  Image light;  ///< (channels, h, w)
  Image rest;   ///< what of the result is no star's, not blurred
};

Blurred blur_back(ConstView after, ConstView discs, Rect around, const std::vector<SkyLevel>& sky,
                  const TileControls& controls) {
  Image stars = extract_mirrored(after, around);
  Image rest = stars.clone();
  const Image inside = extract_mirrored(discs, around);
  if (std::ranges::all_of(inside.pixels(), [](float m) { return m != 0; })) {
    for (int c = 0; c < rest.channels(); ++c) {
      for (int y = 0; y < rest.height(); ++y)
        std::ranges::fill(rest.view().row(c, y), sky[static_cast<std::size_t>(c)].sky);
    }
  } else {
    fill_missing(rest.view(), inside.view());
  }
  std::ranges::transform(stars.pixels(), rest.pixels(), stars.pixels().begin(), std::minus<>());

  const WantedPsfs wanted = wanted_psfs(controls);
  std::vector<Image> kernels;
  kernels.push_back(wanted.stellar.kernel(psf_kernel_px));
  kernels.push_back(wanted.nonstellar.kernel(psf_kernel_px));
  for (std::size_t c = 0; c < static_cast<std::size_t>(after.channels()); ++c) {
    kernels.push_back(controls.measured[c].kernel(psf_kernel_px, controls.residual[c]));
    kernels.push_back(controls.nonstellar_kernel(c));
  }
  const Spectrum transfers = transfer(kernels, around.size());
  Spectrum light = fft(stars.view());
  const Spectrum other = fft(rest.view());
  for (int c = 0; c < after.channels(); ++c) {
    const auto into = light.plane(c);
    const auto add = other.plane(c);
    const auto star_out = transfers.plane(0), rest_out = transfers.plane(1),
               star_in = transfers.plane(2 + 2 * c), rest_in = transfers.plane(3 + 2 * c);
    for (std::size_t i = 0; i < into.size(); ++i)
      into[i] = blurred_back(into[i], star_in[i], star_out[i]) +
                blurred_back(add[i], rest_in[i], rest_out[i]);
  }
  return {inverse_fft(std::move(light)), std::move(rest)};
}

/// Squares of the residual in a cell, and its largest sum over a window in units of what noise
/// would give.
struct Sums {
  double all = 0, stars = 0, worst_window = 0;
  std::size_t star_pixels = 0;
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
        if (star[x] == 0) continue;
        sums.stars += square;
        ++sums.star_pixels;
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
  parallel_for(columns * rows, threads, [&](int i) {
    progress.throw_if_stopped();
    const Rect tile = intersect({i % columns * tile_px, i / columns * tile_px, tile_px, tile_px},
                                {0, 0, size.width, size.height});
    // every tile is transformed at one size: plans are kept
    const Rect around = grown({tile.x, tile.y, tile_px, tile_px}, margin_px);
    const TileControls controls =
        in.controls_at(static_cast<float>(tile.x) + static_cast<float>(tile.width) / 2,
                       static_cast<float>(tile.y) + static_cast<float>(tile.height) / 2);
    const Blurred blurred = blur_back(in.after, discs.view(), around, catalogue.sky, controls);
    for (int c = 0; c < in.before.channels(); ++c) {
      const SkyLevel& sky = catalogue.sky[static_cast<std::size_t>(c)];
      const float per_light = in.photon_shares[static_cast<std::size_t>(c)];
      for (int y = 0; y < tile.height; ++y) {
        const auto light = blurred.light.view().row(c, y + margin_px),
                   rest = blurred.rest.view().row(c, y + margin_px);
        const auto recorded = in.before.row(c, tile.y + y);
        for (int x = 0; x < tile.width; ++x) {
          const int fx = tile.x + x, fy = tile.y + y;
          if (!in.missing.empty() && in.missing(0, fy, fx) != 0) continue;
          const auto px = static_cast<std::size_t>(x + margin_px);
          const float seen = recorded[static_cast<std::size_t>(fx)];
          if (catalogue.saturation && seen >= clipped_share * *catalogue.saturation &&
              light[px] >= 0.95F * *catalogue.saturation)
            continue;
          const float of_star = std::max(0.0F, light[px] - rest[px]);
          const float unsure = psf_known_to * of_star;
          const float variance = sky.sigma * sky.sigma +
                                 per_light * std::max(0.0F, light[px] - sky.sky) + unsure * unsure;
          result.residual.view()(c, fy, fx) =
              (light[px] - seen) / std::sqrt(std::max(variance, 1e-30F));
          if (of_star > bright_sigma * sky.sigma) at_stars.view()(0, fy, fx) = 1;
        }
      }
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
    const double rms =
        std::sqrt(sum.all / (channels * static_cast<double>(cell_at(i).size().pixels())));
    if (rms > doubtful_rms || sum.worst_window > doubtful_window)
      report.doubtful.push_back({cell_at(i), rms, sum.worst_window,
                                 beside_clipped_star(in.catalogue, cell_at(i), reach)});
  }
  std::ranges::sort(report.doubtful, std::greater<>(), &DoubtfulTile::worst_sigma);
  report.residual_rms = std::sqrt(total.all / (channels * static_cast<double>(size.pixels())));
  if (total.star_pixels > 0)
    report.star_residual_rms = std::sqrt(total.stars / static_cast<double>(total.star_pixels));
  return result;
}

}  // namespace limpid
