#include "restore/knowledge.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <vector>

#include <limpid/error.h>

namespace limpid {
namespace {

constexpr int most_fits = 300;  // stars that tell the PSF; more tell nothing new
constexpr float assumed_fwhm_px = 3.0F, assumed_beta = 4.0F;

/// Median over a grid of places.
double median_over(Size size, const std::function<double(float, float)>& value) {
  std::vector<double> values;
  for (int j = 0; j < 5; ++j) {
    for (int i = 0; i < 5; ++i) {
      values.push_back(value((static_cast<float>(i) + 0.5F) / 5 * static_cast<float>(size.width),
                             (static_cast<float>(j) + 0.5F) / 5 * static_cast<float>(size.height)));
    }
  }
  std::ranges::nth_element(values, values.begin() + 12);
  return values[12];
}

/// All but what the PSFs have beyond their Moffats, which takes far longer to draw.
TileControls moffat_controls(const Knowledge& known, const DeconvolveOptions& o, int channels,
                             float x, float y) {
  TileControls controls;
  controls.mono = channels == 1;
  for (int c = 0; c < 3; ++c) {
    Psf psf = known.field ? known.field->at(x, y, channels == 1 ? 0 : c) : known.assumed;
    if (controls.mono) psf.dx = psf.dy = 0;
    psf.fwhm_px = std::clamp(psf.fwhm_px, narrowest_fwhm_px, 1.25F * widest_fwhm_px);
    psf.beta = std::clamp(psf.beta, 1.3F, 11.5F);
    const float excess = psf.ellipticity() / 0.5F;
    if (excess > 1) psf.e1 /= excess, psf.e2 /= excess;
    controls.measured[static_cast<std::size_t>(c)] = psf;
  }
  controls.nonstellar = controls.measured;
  if (o.psf_fwhm_px) {
    Psf round = wanted_psfs(controls).nonstellar;  // for its mean beta
    round.fwhm_px = *o.psf_fwhm_px;
    controls.nonstellar.fill(round);
    if (o.no_stars) controls.measured = controls.nonstellar;
  }
  controls.sharpen_stars = o.correct_only ? 0 : o.sharpen_stars;
  controls.adjust_halos = o.correct_only ? 0 : o.adjust_halos;
  controls.sharpen_nonstellar = o.correct_only ? 0 : o.sharpen_nonstellar;
  if (o.no_stars) {  // everything is non-stellar: what little looks like a star is treated alike
    controls.sharpen_stars = std::min(0.7F, controls.sharpen_nonstellar);
    controls.adjust_halos = 0;
  }
  return controls;
}

}  // namespace

Knowledge measure(ConstView frame, const DeconvolveOptions& o, const Progress& progress) {
  Knowledge known;
  if (o.no_stars) {
    known.catalogue.sky = measure_sky(frame);
    known.catalogue.frame = frame.size();
  } else {
    known.catalogue = detect_stars(frame, {.max_fits = most_fits, .threads = o.threads}, progress);
    known.field = fit_psf_field(frame, known.catalogue, o.threads);
    if (known.field)
      known.errors = measure_psf_errors(frame, known.catalogue, *known.field, o.threads);
  }
  known.normalisation.emplace(known.catalogue.sky, frame, o.threads);
  return known;
}

const NoiseModel& noise_of(Knowledge& known, ConstView frame, int threads) {
  if (!known.noise) {
    const auto middle = [](int length) { return static_cast<float>(length) / 2; };
    const float fwhm_px =
        known.field ? known.field->mean_at(middle(frame.width()), middle(frame.height())).fwhm_px
                    : assumed_fwhm_px;
    known.noise = measure_noise(frame, known.catalogue, static_cast<double>(fwhm_px), threads);
  }
  return *known.noise;
}

void assume(Knowledge& known, ConstView frame, const DeconvolveOptions& o, DeconvolveReport& report,
            const Progress& progress) {
  known.assumed = {};
  known.assumed.beta = assumed_beta;
  known.assumed.fwhm_px = o.psf_fwhm_px.value_or(assumed_fwhm_px);
  if (known.field || o.psf_fwhm_px) return;
  if (!known.spectrum_seen) {
    known.spectral = estimate_psf_from_spectrum(frame, o.threads);
    known.spectrum_seen = true;
  }
  std::array<char, 200> text{};
  if (known.spectral) {
    known.assumed.fwhm_px = std::clamp(known.spectral->fwhm_px, 0.5F, 16.0F);
    std::snprintf(
        text.data(), text.size(),
        "no stars to measure: a round PSF of %.1f px (known to %.0f %%) was estimated from "
        "the nebula's power spectrum; --psf FWHM overrides it",
        static_cast<double>(known.spectral->fwhm_px),
        100 * static_cast<double>(known.spectral->relative_error));
  } else if (o.no_stars) {
    std::snprintf(
        text.data(), text.size(),
        "no stars and no --psf: a PSF of %.0f px was assumed; look at the result and give "
        "--psf FWHM",
        static_cast<double>(assumed_fwhm_px));
  } else {
    throw Error(ErrorKind::failed,
                "no field of stars to measure the PSF (" +
                    std::to_string(known.catalogue.stars.size()) +
                    " objects found, too few or unlike each other); give --psf FWHM, or --no-stars "
                    "for the Moon, planets and starless frames");
  }
  report.notes.emplace_back(text.data());
  progress.say(report.notes.back());
}

float typical_fwhm(const Knowledge& known, Size size) {
  return static_cast<float>(median_over(size, [&](float x, float y) {
    return known.field ? known.field->mean_at(x, y).fwhm_px : known.assumed.fwhm_px;
  }));
}

TileControls stellar_controls_at(const Knowledge& known, const DeconvolveOptions& o, int channels,
                                 float x, float y) {
  TileControls controls = moffat_controls(known, o, channels, x, y);
  for (int c = 0; c < 3 && known.field; ++c) {
    controls.residual[static_cast<std::size_t>(c)] =
        known.field->residual(x, y, channels == 1 ? 0 : c, psf_kernel_px, controls.mono);
  }
  return controls;
}

TileControls controls_at(const Knowledge& known, const DeconvolveOptions& o, int channels, float x,
                         float y) {
  TileControls controls = stellar_controls_at(known, o, channels, x, y);
  for (int c = 0; c < 3 && known.field && !o.psf_fwhm_px; ++c) {
    const auto at = static_cast<std::size_t>(c);
    controls.nonstellar_residual[at] = known.field->with_wings(
        controls.residual[at], x, y, channels == 1 ? 0 : c, psf_kernel_px, controls.mono);
  }
  return controls;
}

WantedPsfs wanted_at(const Knowledge& known, const DeconvolveOptions& o, int channels, float x,
                     float y) {
  return wanted_psfs(moffat_controls(known, o, channels, x, y));
}

void describe(DeconvolveReport& report, const Knowledge& known, ConstView frame,
              const DeconvolveOptions& o) {
  report.fwhm_px = typical_fwhm(known, frame.size());
  report.psf_measured = known.field.has_value();
  if (known.field) {
    report.stars_used = known.field->star_count();
    report.field_order = known.field->order();
    report.ellipticity = median_over(
        frame.size(), [&](float x, float y) { return known.field->mean_at(x, y).ellipticity(); });
  }
  const WantedPsfs wanted =
      wanted_at(known, o, frame.channels(), static_cast<float>(frame.width()) / 2,
                static_cast<float>(frame.height()) / 2);
  report.fwhm_asked_px = wanted.stellar.fwhm_px;
  report.nonstellar_fwhm_asked_px = wanted.nonstellar.fwhm_px;
}

}  // namespace limpid
