#include "restore/reblur_tile.h"

#include <algorithm>
#include <cmath>

#include "core/fft.h"
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
constexpr float sure_snr = 12;
constexpr double knot_fwhm = 2;  // half the side of the square in which star or knot is decided
constexpr double explained = 1;  // mean square of a residual that is noise

/// The result in a tile, its margin included, blurred back to the measured PSFs.
struct Blurred {
  Image light;  ///< (channels, h, w)
  Image rest;   ///< what of the result is no star's, not blurred
};

Blurred blur_back(ConstView after, const Image& discs, Rect around,
                  const std::vector<SkyLevel>& sky, const TileControls& controls) {
  Image stars = extract_mirrored(after, around);
  Image rest = stars.clone();
  if (std::ranges::all_of(discs.pixels(), [](float m) { return m != 0; })) {
    for (int c = 0; c < rest.channels(); ++c) {
      for (int y = 0; y < rest.height(); ++y)
        std::ranges::fill(rest.view().row(c, y), sky[static_cast<std::size_t>(c)].sky);
    }
  } else {
    fill_missing(rest.view(), discs.view());
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

double mean_square(const Image& picture, Rect place) {
  double sum = 0;
  for (int c = 0; c < picture.channels(); ++c) {
    for_pixels(place, [&](int x, int y) {
      const auto value = static_cast<double>(picture.view()(c, y, x));
      sum += value * value;
    });
  }
  return sum / (picture.channels() * static_cast<double>(place.size().pixels()));
}

void copy_place(const Image& from, Rect place, Image& to) {
  for (int c = 0; c < from.channels(); ++c)
    for_pixels(place, [&](int x, int y) { to.view()(c, y, x) = from.view()(c, y, x); });
}

}  // namespace

TileTester::TileTester(const ReblurInput& in, ConstView discs) : in_(in), discs_(discs) {
  sure_.sky = in.catalogue.sky;
  sure_.frame = in.catalogue.frame;
  for (const Star& star : in.catalogue.stars)
    (star.saturated || star.snr >= sure_snr ? sure_.stars : doubtful_).push_back(star);
}

TileTest TileTester::test(Rect tile, Size full) const {
  const Rect around = grown({tile.x, tile.y, full.width, full.height}, margin_px);
  const TileControls controls =
      in_.controls_at(static_cast<float>(tile.x) + static_cast<float>(tile.width) / 2,
                      static_cast<float>(tile.y) + static_cast<float>(tile.height) / 2);
  const Image clipped = beside_clipped(tile);
  TileTest test = compare(tile, around, extract_mirrored(discs_, around), controls, clipped);
  std::optional<TileTest> as_knots;
  const auto seen_of = [&](const Star& star, double fwhm) {
    const Rect seen =
        intersect(square_around(star, static_cast<int>(std::ceil(fwhm * in_.fwhm_px))), tile);
    return Rect{seen.x - tile.x, seen.y - tile.y, seen.width, seen.height};
  };
  for (const Star& star : doubtful_) {
    const Rect core = seen_of(star, 1), place = seen_of(star, knot_fwhm);
    if (core.size().pixels() == 0 || mean_square(test.residual, core) < explained) continue;
    if (!as_knots) as_knots = compare(tile, around, sure_discs(around), controls, clipped);
    const double as_knot = mean_square(as_knots->residual, place);
    if (as_knot >= explained || as_knot >= mean_square(test.residual, place)) continue;
    copy_place(as_knots->residual, place, test.residual);
    copy_place(as_knots->at_star, place, test.at_star);
  }
  return test;
}

TileTest TileTester::compare(Rect tile, Rect around, const Image& discs,
                             const TileControls& controls, const Image& clipped) const {
  const Blurred blurred = blur_back(in_.after, discs, around, in_.catalogue.sky, controls);
  TileTest test{Image(in_.before.channels(), tile.size()), Image(1, tile.size())};
  const auto& saturation = in_.catalogue.saturation;
  for (int c = 0; c < in_.before.channels(); ++c) {
    const SkyLevel& sky = in_.catalogue.sky[static_cast<std::size_t>(c)];
    const float per_light = in_.photon_shares[static_cast<std::size_t>(c)];
    for (int y = 0; y < tile.height; ++y) {
      const auto light = blurred.light.view().row(c, y + margin_px),
                 rest = blurred.rest.view().row(c, y + margin_px);
      const auto recorded = in_.before.row(c, tile.y + y);
      for (int x = 0; x < tile.width; ++x) {
        const int fx = tile.x + x, fy = tile.y + y;
        if (!in_.missing.empty() && in_.missing(0, fy, fx) != 0) continue;
        const auto px = static_cast<std::size_t>(x + margin_px);
        const float seen = recorded[static_cast<std::size_t>(fx)];
        if (saturation && seen >= clipped_share * *saturation && light[px] >= 0.95F * *saturation)
          continue;
        const float of_star = std::max(0.0F, light[px] - rest[px]);
        const float unsure = psf_known_to * of_star;
        const float variance = sky.sigma * sky.sigma +
                               per_light * std::max(0.0F, light[px] - sky.sky) + unsure * unsure;
        test.residual.view()(c, y, x) = (light[px] - seen) / std::sqrt(std::max(variance, 1e-30F));
        if (of_star > bright_sigma * sky.sigma)
          test.at_star.view()(0, y, x) = clipped.view()(0, y, x) != 0 ? 2 : 1;
      }
    }
  }
  return test;
}

Image TileTester::sure_discs(Rect around) const {
  const Rect inside = intersect(around, {0, 0, in_.after.width(), in_.after.height()});
  const Image discs = star_discs(sure_, in_.fwhm_px, inside, 1);
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
