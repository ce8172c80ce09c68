// How far the PSF field is right on simulated aberrated frames: stars from 20 to 2,000, sky empty
// to full of bright nebulae. `limpid_psf_accuracy [SCENES] [CORPUS]`; without a corpus the nebulae
// are procedural.
#include <limpid/stars.h>
#include <limpid/training.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

using limpid::Psf;

void print_row(const char* label, std::vector<double> errors) {
  if (errors.empty()) return;
  std::ranges::sort(errors);
  double squares = 0;
  for (const double error : errors) squares += error * error;
  const auto at = [&](double share) {
    return errors[static_cast<std::size_t>(share * static_cast<double>(errors.size() - 1))];
  };
  std::printf("%-22s %8.4f %8.4f %8.4f %8.4f\n", label, at(0.5), at(0.9), errors.back(),
              std::sqrt(squares / static_cast<double>(errors.size())));
}

/// Fits the field to every second star of frames whose corners have coma and compares it with those
/// of the others whose own fit is certain to 2 % in width. `nebula`: 0 for a dark sky, 1 for
/// nebulae and dust, whose structure under the stars disturbs the fits more than noise does.
void predict_left_out_stars(double nebula) {
  constexpr float certain = 0.02F;
  std::vector<double> fwhm, ellipticity;
  for (const std::uint64_t seed : {31U, 32U, 33U, 34U, 35U, 36U}) {
    limpid::NightOptions options{
        .seed = seed, .fwhm_px = 2.4 + 0.5 * static_cast<double>(seed % 4), .stars = 3000};
    options.nebula = nebula;
    const auto night = limpid::simulate_night(options);
    limpid::StarCatalogue known = limpid::detect_stars(night.recorded.view());
    std::vector<limpid::Star> left_out, kept;
    for (std::size_t i = 0; i < known.stars.size(); ++i)
      (i % 2 == 0 ? kept : left_out).push_back(known.stars[i]);
    known.stars = std::move(kept);
    const auto field = limpid::fit_psf_field(night.recorded.view(), known);
    if (!field) continue;
    for (const limpid::Star& star : left_out) {
      if (star.saturated || star.blended || star.on_edge || star.artefact) continue;
      for (std::size_t c = 0; c < star.fits.size(); ++c) {
        const limpid::StarFit& fit = star.fits[c];
        if (fit.psf.fwhm_px == 0 || fit.fwhm_error > certain * fit.psf.fwhm_px) continue;
        const Psf told = field->at(star.x, star.y, static_cast<int>(c));
        fwhm.push_back(std::abs(static_cast<double>(told.fwhm_px / fit.psf.fwhm_px) - 1));
        ellipticity.push_back(std::hypot(told.e1 - fit.psf.e1, told.e2 - fit.psf.e2));
      }
    }
  }
  std::printf("stars left out of the field, coma in the corners, %s: %zu fits\n",
              nebula > 0 ? "nebulae" : "dark sky", fwhm.size());
  print_row("FWHM, relative", fwhm);
  print_row("ellipticity", ellipticity);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::array stars{700, 60, 250, 2000, 20, 0};
  constexpr std::array nebula_peaks{0.0, 20.0, 100.0, 400.0, 1500.0};  // of the sky noise
  constexpr int side = 640;
  constexpr double golden = 0.6180339887498949;  // spreads the widths without a pattern
  const int scenes = argc > 1 ? std::atoi(argv[1]) : 30;
  const limpid::Simulator simulator(argc > 2 ? argv[2] : "", true, 77, 0, 1);
  std::vector<double> fwhm, beta, ellipticity, spectral;
  int refused = 0, starless = 0, invented = 0;
  for (int i = 0; i < scenes; ++i) {
    limpid::SceneOptions options;
    options.side_px = side;
    options.mono = false;
    options.perturb_measurement = false;
    options.fwhm_px = 1.6 + 5.5 * std::fmod(i * golden, 1.0);
    options.stars = stars[static_cast<std::size_t>(i) % stars.size()];
    const double peak =
        nebula_peaks[(static_cast<std::size_t>(i) / stars.size()) % nebula_peaks.size()];
    options.nebula = peak > 0;
    if (peak > 0) options.nebula_peak = peak;
    const auto scene = simulator.draw(1000 + static_cast<std::uint64_t>(i), options);
    const auto catalogue = limpid::detect_stars(scene.input.view(), {.max_fits = 300});
    const auto field = limpid::fit_psf_field(scene.input.view(), catalogue);
    starless += *options.stars == 0 ? 1 : 0;
    if (!field) {
      refused += *options.stars > 0 ? 1 : 0;
      if (const auto estimate = limpid::estimate_psf_from_spectrum(scene.input.view()))
        spectral.push_back(std::abs(estimate->fwhm_px / scene.true_psf[1].fwhm_px - 1));
      continue;
    }
    if (*options.stars == 0) {
      ++invented;
      continue;
    }
    for (int c = 0; c < 3; ++c) {
      const Psf got = field->at(side / 2.0F, side / 2.0F, c);
      const Psf& truth = scene.true_psf[static_cast<std::size_t>(c)];
      fwhm.push_back(std::abs(got.fwhm_px / truth.fwhm_px - 1));
      beta.push_back(std::abs(got.beta / truth.beta - 1));
      ellipticity.push_back(std::hypot(got.e1 - truth.e1, got.e2 - truth.e2));
    }
  }
  std::printf("%d scenes: %d with stars but no field, %d of %d starless ones with a field\n",
              scenes, refused, invented, starless);
  std::printf("%-22s %8s %8s %8s %8s\n", "|error|", "median", "90 %", "worst", "rms");
  print_row("FWHM, relative", fwhm);
  print_row("beta, relative", beta);
  print_row("ellipticity", ellipticity);
  print_row("FWHM from the spectrum", spectral);
  predict_left_out_stars(0);
  predict_left_out_stars(1);
}
