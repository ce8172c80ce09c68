#include "restore/reblur_tile.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/complex_lanes.h"
#include "core/fft_columns.h"
#include "measure/moffat.h"
#include "restore/geometry.h"
#include "restore/hidden_lights.h"
#include "restore/noise_model.h"
#include "restore/normalise.h"

namespace limpid {
namespace {

constexpr int margin_px = psf_kernel_px / 2;
constexpr float psf_known_to = 0.02F;  // of a star's light
constexpr float bright_sigma = 10;     // pixels of stars that are judged apart
constexpr double beside_clipped_fwhm = 5;
constexpr float explained_clipping = 0.95F;  // of the saturation, that a clipped pixel needs
constexpr float sure_snr = 12;
constexpr double knot_fwhm = 2;  // half the side of the square in which star or knot is decided
constexpr double explained = 1;  // mean square of a residual that is noise

/// The wanted PSFs, of stars and of the rest, then for each channel those that were measured.
constexpr int star_wanted = 0, rest_wanted = 1;
constexpr int star_measured(int channel) { return 2 + 2 * channel; }
constexpr int rest_measured(int channel) { return 3 + 2 * channel; }

ColumnSpectrum transfers_of(const TileControls& controls, int channels, Size size) {
  const WantedPsfs wanted = wanted_psfs(controls);
  std::vector<Image> kernels;
  kernels.push_back(wanted.stellar.kernel(psf_kernel_px));
  kernels.push_back(wanted.nonstellar.kernel(psf_kernel_px));
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    Image moffat = controls.measured[c].kernel(psf_kernel_px);
    kernels.push_back(with_residual(moffat.clone(), controls.residual[c]));
    kernels.push_back(controls.nonstellar[c] == controls.measured[c]
                          ? with_residual(std::move(moffat), controls.undone_residual(c))
                          : controls.nonstellar_kernel(c));
  }
  return column_transfer(kernels, size);
}

/// What is compared in one row.
struct Row {
  std::span<const float> light, rest, seen, beside_clipped;
};

/// Compares rows of one channel. Where the result explains that a pixel is clipped nothing differs.
class RowTest {
 public:
  RowTest(const ReblurInput& in, int channel)
      : sky_(in.catalogue.sky[static_cast<std::size_t>(channel)]),
        per_light_(in.photon_shares[static_cast<std::size_t>(channel)]) {
    if (!in.catalogue.saturation) return;
    clipped_from_ = clipped_share * *in.catalogue.saturation;
    explained_from_ = explained_clipping * *in.catalogue.saturation;
  }
  /// Sets the residual and adds to what lies at stars.
  void compare(const Row& row, std::span<float> residual, std::span<float> at_star) {
    of_star_.resize(residual.size());
    for (std::size_t x = 0; x < residual.size(); ++x) {
      const float light = row.light[x], seen = row.seen[x],
                  of_star = std::max(0.0F, light - row.rest[x]), unsure = psf_known_to * of_star,
                  variance = sky_.sigma * sky_.sigma +
                             per_light_ * std::max(0.0F, light - sky_.sky) + unsure * unsure,
                  sigma = std::sqrt(std::max(variance, 1e-30F));
      const bool counts = seen < clipped_from_ || light < explained_from_;
      residual[x] = counts ? (light - seen) / sigma : 0;
      of_star_[x] = counts ? of_star : 0;
    }
    const float bright = bright_sigma * sky_.sigma;
    for (std::size_t x = 0; x < residual.size(); ++x) {
      const float kind = row.beside_clipped[x] != 0 ? 2.0F : 1.0F;
      at_star[x] = of_star_[x] > bright ? kind : at_star[x];
    }
  }

 private:
  SkyLevel sky_;
  float per_light_;
  float clipped_from_ = std::numeric_limits<float>::infinity(), explained_from_ = 0;
  std::vector<float> of_star_;
};

/// Where there were no data nothing differs.
void leave_out(ConstView missing, TileTest out) {
  for_pixels({0, 0, missing.width(), missing.height()}, [&](int x, int y) {
    if (missing(0, y, x) == 0) return;
    for (int c = 0; c < out.residual.channels(); ++c) out.residual(c, y, x) = 0;
    out.at_star(0, y, x) = 0;
  });
}

double mean_square(ConstView picture, Rect place) {
  double sum = 0;
  for (int c = 0; c < picture.channels(); ++c) {
    for_pixels(place, [&](int x, int y) {
      const auto value = static_cast<double>(picture(c, y, x));
      sum += value * value;
    });
  }
  return sum / (picture.channels() * static_cast<double>(place.size().pixels()));
}

void copy_place(ConstView from, Rect place, MutableView to) {
  for (int c = 0; c < from.channels(); ++c)
    for_pixels(place, [&](int x, int y) { to(c, y, x) = from(c, y, x); });
}

}  // namespace

/// The result in a tile, its margin included, blurred back to the measured PSFs, whatever is taken
/// for a star in it.
class TileTester::BlurredBack {
 public:
  BlurredBack(ConstView after, Rect around, const TileControls& controls)
      : after_(extract_mirrored(after, around)),
        all_(column_fft(after_.view())),
        transfers_(transfers_of(controls, after.channels(), around.size())) {}
  /// What of the result is no star's, not blurred. `discs`: of stars.
  [[nodiscard]] Image rest(const Image& discs, const std::vector<SkyLevel>& sky) const {
    Image rest = after_.clone();
    if (std::ranges::any_of(discs.pixels(), [](float m) { return m == 0; })) {
      fill_missing(rest.view(), discs.view());
      return rest;
    }
    for (int c = 0; c < rest.channels(); ++c) {
      for (int y = 0; y < rest.height(); ++y)
        std::ranges::fill(rest.view().row(c, y), sky[static_cast<std::size_t>(c)].sky);
    }
    return rest;
  }
  /// Rows of the light that the rest and what stars have beyond it become, inside the margin.
  void rows(const Image& rest, Rect inside, const UseRows& use) const {
    const ColumnSpectrum other = column_fft(rest.view());
    const auto fill = [&](int c, int kx, std::span<std::complex<float>> out) {
      const auto all = all_.column(c, kx), of_rest = other.column(c, kx),
                 star_in = transfers_.column(star_measured(c), kx),
                 rest_in = transfers_.column(rest_measured(c), kx),
                 star_out = transfers_.column(star_wanted, kx),
                 rest_out = transfers_.column(rest_wanted, kx);
      for (std::size_t ky = 0; ky < out.size(); ky += complex_lane_count) {
        const std::size_t count = std::min(complex_lane_count, out.size() - ky);
        const auto by = [&](std::span<const std::complex<float>> measured,
                            std::span<const std::complex<float>> wanted) {
          return blurred_back(load_some(&measured[ky], count), load_some(&wanted[ky], count));
        };
        const FloatLanes calm = load_some(&of_rest[ky], count),
                         stars = load_some(&all[ky], count) - calm;
        store_some(&out[ky],
                   product(stars, by(star_in, star_out)) + product(calm, by(rest_in, rest_out)),
                   count);
      }
    };
    rows_from_columns(after_.channels(), after_.size(), inside, fill, use);
  }

 private:
  Image after_;
  ColumnSpectrum all_, transfers_;
};

TileTester::TileTester(const ReblurInput& in) : in_(in) {
  sure_.sky = in.catalogue.sky;
  sure_.frame = in.catalogue.frame;
  for (const Star& star : in.catalogue.stars)
    (star.saturated || star.snr >= sure_snr ? sure_.stars : doubtful_).push_back(star);
}

void TileTester::test(Rect tile, Size full, TileTest out) const {
  const Rect around = grown({tile.x, tile.y, full.width, full.height}, margin_px);
  const TileControls controls =
      in_.controls_at(static_cast<float>(tile.x) + static_cast<float>(tile.width) / 2,
                      static_cast<float>(tile.y) + static_cast<float>(tile.height) / 2);
  const Image clipped = beside_clipped(tile);
  const BlurredBack blurred(in_.after, around, controls);
  compare(tile, blurred, discs(in_.catalogue, around), clipped, out);
  Image knots, at_knots;
  const auto seen_of = [&](const Star& star, double fwhm) {
    const Rect seen =
        intersect(square_around(star, static_cast<int>(std::ceil(fwhm * in_.fwhm_px))), tile);
    return Rect{seen.x - tile.x, seen.y - tile.y, seen.width, seen.height};
  };
  for (const Star& star : doubtful_) {
    const Rect core = seen_of(star, 1), place = seen_of(star, knot_fwhm);
    if (core.size().pixels() == 0 || mean_square(out.residual, core) < explained) continue;
    if (knots.empty()) {
      knots = Image::unset(out.residual.channels(), tile.size());
      at_knots = Image::unset(1, tile.size());
      compare(tile, blurred, discs(sure_, around), clipped, {knots.view(), at_knots.view()});
    }
    const double as_knot = mean_square(knots.view(), place);
    if (as_knot >= explained || as_knot >= mean_square(out.residual, place)) continue;
    copy_place(knots.view(), place, out.residual);
    copy_place(at_knots.view(), place, out.at_star);
  }
}

void TileTester::compare(Rect tile, const BlurredBack& blurred, const Image& stars,
                         const Image& clipped, TileTest out) const {
  const Image rest = blurred.rest(stars, in_.catalogue.sky);
  const Rect inside{margin_px, margin_px, tile.width, tile.height};
  const ConstView calm = rest.view().crop(inside), recorded = in_.before.crop(tile);
  std::vector<RowTest> tests;
  for (int c = 0; c < in_.before.channels(); ++c) tests.emplace_back(in_, c);
  for (int y = 0; y < tile.height; ++y) std::ranges::fill(out.at_star.row(0, y), 0.0F);
  blurred.rows(rest, inside, [&](int first, ConstView light) {
    for (int c = 0; c < light.channels(); ++c) {
      for (int y = 0; y < light.height(); ++y) {
        tests[static_cast<std::size_t>(c)].compare(
            {.light = light.row(c, y),
             .rest = calm.row(c, first + y),
             .seen = recorded.row(c, first + y),
             .beside_clipped = clipped.view().row(0, first + y)},
            out.residual.row(c, first + y), out.at_star.row(0, first + y));
      }
    }
  });
  if (!in_.missing.empty()) leave_out(in_.missing.crop(tile), out);
}

Image TileTester::discs(const StarCatalogue& catalogue, Rect around) const {
  const Rect inside = intersect(around, {0, 0, in_.after.width(), in_.after.height()});
  const Image discs = star_discs(catalogue, in_.fwhm_px, inside, 1);
  return extract_mirrored(discs.view(),
                          {around.x - inside.x, around.y - inside.y, around.width, around.height});
}

Image TileTester::beside_clipped(Rect tile) const {
  const auto reach_px = static_cast<float>(beside_clipped_fwhm * in_.fwhm_px);
  const Rect around = intersect(grown(tile, static_cast<int>(std::ceil(reach_px))),
                                {0, 0, in_.before.width(), in_.before.height()});
  const Image near = near_clipped(in_.before.crop(around), in_.catalogue, reach_px);
  return copy(near.view().crop({tile.x - around.x, tile.y - around.y, tile.width, tile.height}));
}

}  // namespace limpid
