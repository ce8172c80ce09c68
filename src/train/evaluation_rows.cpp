#include "train/evaluation_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace limpid {
namespace {

/// Share of SPEC 3.4's perturbation whose medians are those that limpid itself misses by on
/// simulated frames: FWHM 1.2 %, ellipticity .009 (limpid_psf_accuracy, docs/measure.md).
constexpr double measured_error = 0.6;

constexpr int kernel_px = 64;

/// Peak at which a star of this width has this S/N against the sky alone, over all its pixels.
double peak_for_snr(double snr, double fwhm_px) {
  Psf psf;
  psf.fwhm_px = static_cast<float>(fwhm_px);
  psf.beta = 3.5F;
  const Image kernel = psf.kernel(kernel_px);
  double squares = 0, peak = 0;
  for (const float value : kernel.pixels()) {
    squares += static_cast<double>(value) * static_cast<double>(value);
    peak = std::max(peak, static_cast<double>(value));
  }
  return snr * peak / std::sqrt(squares);
}

SceneOptions of(Recording recording) {
  return {.aberration = Aberration::none, .recording = recording, .fwhm_px = 3.5};
}

/// Classes that differ in how the frame was recorded, for stars and for the rest.
std::vector<EvaluationRow> recording_rows() {
  std::vector<EvaluationRow> rows;
  for (const auto recording : {Recording::drizzled, Recording::narrowband, Recording::stretched})
    rows.push_back({std::string(name(recording)), of(recording)});
  SceneOptions correlated = of(Recording::plain), mono = of(Recording::plain);
  correlated.correlated_noise = true;
  mono.mono = true;
  rows.push_back({"correlated noise", correlated});
  rows.push_back({"mono", mono});
  return rows;
}

/// What all rows share; a class says otherwise where it is about just that.
void complete(EvaluationRow& row) {
  SceneOptions& s = row.scene;
  s.side_px = evaluation_px;
  s.recording = s.recording.value_or(Recording::plain);
  s.adjust_halos = 0;
  s.sharpen_nonstellar = 0.9;
  s.mono = s.mono.value_or(false);
  s.correlated_noise = s.correlated_noise.value_or(false);
  s.sky_misjudged = false;
  s.measurement_error = s.measurement_error.value_or(measured_error);
  s.residual_known = s.residual_known.value_or(true);
}

}  // namespace

std::string labelled(const char* format, double a, double b) {
  std::array<char, 100> text{};
  std::snprintf(text.data(), text.size(), format, a, b);
  return text.data();
}

std::vector<EvaluationRow> star_rows() {
  std::vector<EvaluationRow> rows;
  const auto plain = [&](double sharpen, double fwhm) {
    SceneOptions scene = of(Recording::plain);
    scene.fwhm_px = fwhm;
    scene.sharpen_stars = sharpen;
    rows.push_back({labelled("S %.2f, FWHM about %.1f px", sharpen, fwhm), scene});
  };
  plain(0, 3);
  for (const double sharpen : {0.1, 0.25, 0.5}) {
    for (const double fwhm : {2.0, 3.0, 4.5, 7.0}) plain(sharpen, fwhm);
  }
  plain(0.25, 1.5);
  plain(0.25, 8);
  plain(0.6, 3);
  for (int k = 1; k < aberration_count; ++k) {
    const auto aberration = static_cast<Aberration>(k);
    rows.push_back({std::string(name(aberration)), {.aberration = aberration, .fwhm_px = 3.5}});
  }
  // The rows above have the PSF that a frame with some hundred stars tells; these have its Moffat
  // alone.
  for (const auto aberration : {Aberration::coma, Aberration::spider, Aberration::mixed}) {
    rows.push_back({std::string(name(aberration)) + ", few stars",
                    {.aberration = aberration, .fwhm_px = 3.5, .residual_known = false}});
  }
  for (EvaluationRow& row : recording_rows()) {
    // the faintest band must still show its stars
    if (row.scene.recording == Recording::narrowband)
      row.scene.star_peak_min = 1000, row.scene.star_peak_max = 30000;
    rows.push_back(row);
  }
  for (const double snr : {20.0, 100.0, 500.0}) {
    SceneOptions scene = of(Recording::plain);
    scene.star_peak_min = scene.star_peak_max = peak_for_snr(snr, 3.5);
    rows.push_back({labelled("S/N about %.0f", snr), scene});
  }
  for (EvaluationRow& row : rows) {
    SceneOptions& s = row.scene;
    if (!s.sharpen_stars) {
      s.sharpen_stars = 0.25;
      row.label += ", S 0.25";
    }
    s.nebula = false;
    s.isolated_stars = true;
    s.star_peak_min = s.star_peak_min.value_or(60);
    s.star_peak_max = s.star_peak_max.value_or(3000);
    s.saturation = false;
    complete(row);
  }
  return rows;
}

std::vector<EvaluationRow> nebula_rows() {
  std::vector<EvaluationRow> rows;
  for (int k = 0; k < aberration_count; ++k) {
    const auto aberration = static_cast<Aberration>(k);
    rows.push_back({std::string(name(aberration)), {.aberration = aberration, .fwhm_px = 3.5}});
  }
  for (const auto aberration : {Aberration::coma, Aberration::spider, Aberration::mixed}) {
    rows.push_back({std::string(name(aberration)) + ", few stars",
                    {.aberration = aberration, .fwhm_px = 3.5, .residual_known = false}});
  }
  for (const double snr : {2.0, 10.0, 50.0, 500.0}) {
    SceneOptions scene = of(Recording::plain);
    scene.nebula_peak = snr;
    rows.push_back({labelled("none, S/N %.0f", snr), scene});
  }
  for (const double fwhm : {1.5, 2.5, 5.5, 8.0}) {
    SceneOptions scene = of(Recording::plain);
    scene.fwhm_px = fwhm;
    rows.push_back({labelled("none, FWHM about %.1f px", fwhm), scene});
  }
  for (const EvaluationRow& row : recording_rows()) rows.push_back(row);
  SceneOptions galaxy = of(Recording::galaxy);
  galaxy.residual_known = false;
  galaxy.measurement_error = 1;  // hardly a star tells the PSF
  rows.push_back({"star-poor galaxy", galaxy});
  for (EvaluationRow& row : rows) row.scene.stars = 0;
  rows.push_back({"dense cluster (stars too)", of(Recording::cluster)});
  for (EvaluationRow& row : rows) {
    row.scene.sharpen_stars = 0.25;
    row.scene.nebula = true;
    row.scene.nebula_peak = row.scene.nebula_peak.value_or(200);
    row.scene.saturation = false;
    complete(row);
  }
  return rows;
}

EvaluationRow clipped_row() {
  EvaluationRow row{"clipped", of(Recording::clipped)};
  row.scene.sharpen_stars = 0.25;
  row.scene.isolated_stars = true;
  row.scene.star_peak_min = 50;  // of those that are not clipped
  row.scene.star_peak_max = 400;
  row.scene.nebula = false;
  complete(row);
  return row;
}

EvaluationRow noise_row() {
  EvaluationRow row{"pure noise", {}};
  row.scene.sharpen_stars = 0.25;
  row.scene.stars = 0;
  row.scene.nebula = row.scene.saturation = false;
  complete(row);
  return row;
}

}  // namespace limpid
