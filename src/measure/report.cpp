// What the stars say about a frame, in figures and in words.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include <limpid/stars.h>

#include "core/statistics.h"

namespace limpid {
namespace {

struct Verdict {
  const char *verdict, *reason;
};

/// Limits and reasons: R. Croman, "BlurXTerminator" manual, section 3.7.
Verdict sampling_of(float fwhm_px) {
  if (fwhm_px < 2) {
    return {"undersampled",
            "stars under 2 pixels wide: detail finer than a pixel was lost; dither and drizzle"};
  }
  if (fwhm_px <= 4) {
    return {"well sampled", "2 to 4 pixels across a star keep nearly all detail; 4 is generous"};
  }
  if (fwhm_px <= 8) {
    return {"oversampled",
            "4 to 8 pixels across a star hold no further detail; halving the scale costs little"};
  }
  return {"bin by two",
          "over 8 pixels across a star: binning by two loses nothing and gains signal to noise"};
}

std::string formatted(const char* pattern, double value) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), pattern, value);
  return text.data();
}

void fill_field(FrameReport& report, const PsfField& field, Size frame) {
  constexpr int longer_side = 9;
  const int longest = std::max(frame.width, frame.height);
  const auto cells = [longest](int length) {
    return std::max(3, static_cast<int>(std::lround(double(longer_side) * length / longest)));
  };
  report.field_columns = cells(frame.width);
  report.field_rows = cells(frame.height);
  for (int row = 0; row < report.field_rows; ++row) {
    for (int column = 0; column < report.field_columns; ++column) {
      const float x = (static_cast<float>(column) + 0.5F) * static_cast<float>(frame.width) /
                          static_cast<float>(report.field_columns) -
                      0.5F;
      const float y = (static_cast<float>(row) + 0.5F) * static_cast<float>(frame.height) /
                          static_cast<float>(report.field_rows) -
                      0.5F;
      const Psf psf = field.mean_at(x, y);
      const auto [coma_x, coma_y] = field.coma(x, y);
      report.field.push_back({x, y, psf.fwhm_px, psf.ellipticity(), psf.eccentricity(),
                              psf.angle_rad(), psf.beta, coma_x, coma_y});
    }
  }
}

/// FWHM in the corners, left to right and top to bottom, and in the centre.
struct Extremes {
  std::array<float, 4> corners;
  float centre;
};
Extremes extremes_of(const PsfField& field, Size frame) {
  const auto right = static_cast<float>(frame.width - 1),
             bottom = static_cast<float>(frame.height - 1);
  const auto width = [&field](float x, float y) { return field.mean_at(x, y).fwhm_px; };
  return {{width(0, 0), width(right, 0), width(0, bottom), width(right, bottom)},
          width(right / 2, bottom / 2)};
}

void describe_field(FrameReport& report, const Extremes& extremes) {
  const auto& [upper_left, upper_right, lower_left, lower_right] = extremes.corners;
  const float mean = (upper_left + upper_right + lower_left + lower_right) / 4;
  const float across = (upper_right + lower_right - upper_left - lower_left) / 2;
  const float down = (lower_left + lower_right - upper_left - upper_right) / 2;
  report.tilt = (std::abs(across) + std::abs(down)) / mean;
  report.off_axis = mean / extremes.centre - 1;
  constexpr std::array<const char*, 4> names{"upper left", "upper right", "lower left",
                                             "lower right"};
  const auto worst = std::ranges::max_element(extremes.corners);
  const float excess = *worst / extremes.centre - 1;
  // Under 3 % nobody sees it, and few frames have the stars to be sure of it.
  constexpr float noticeable = 0.03F;
  if (std::abs(report.off_axis) < noticeable && report.tilt < noticeable) {
    report.summary += "Stars are equally wide all over the frame.";
    return;
  }
  report.summary += "Corners " + formatted("%.0f %%", 100 * std::abs(report.off_axis)) +
                    (report.off_axis >= 0 ? " wider" : " narrower") + " than the centre";
  if (excess > noticeable) {
    report.summary +=
        ", worst at the " +
        std::string(names[static_cast<std::size_t>(worst - extremes.corners.begin())]) + " (" +
        formatted("%.0f %%", 100 * excess) + ", rows counted from the top)";
  }
  report.summary += report.tilt > noticeable
                        ? "; tilt changes the width by " + formatted("%.0f %%", 100 * report.tilt) +
                              " from side to side."
                        : ".";
}

/// Faint stars look wider, narrower and above all longer than they are: medians are taken of those
/// whose width is known to 5 %, if there are a few.
bool well_measured(const Star& star) {
  return std::ranges::all_of(star.fits, [](const StarFit& fit) {
    return fit.psf.fwhm_px > 0 && fit.fwhm_error < 0.05F * fit.psf.fwhm_px;
  });
}

/// Three and more fits that yet gave no field are of knots and galaxies, not of stars.
constexpr std::ptrdiff_t too_many_to_disagree = 3;

const char* why_unmeasured(const FrameReport& report, std::ptrdiff_t fitted, bool has_scatter) {
  if (report.stars_detected == 0)
    return has_scatter ? "No stars were found."
                       : "The frame is constant or holds no data, so there are no stars.";
  if (fitted >= too_many_to_disagree) {
    return "Point-like objects were found, but they do not share one profile as stars do: knots of "
           "a nebula or galaxies, most likely.";
  }
  return "Stars were found, but none is isolated, bright and unclipped enough to measure.";
}

}  // namespace

Image picture_psf_field(const PsfField& field, const FrameReport& report, int side_px) {
  Image picture(field.channels(), {report.field_columns * side_px, report.field_rows * side_px});
  for (std::size_t i = 0; i < report.field.size(); ++i) {
    const int row = static_cast<int>(i) / report.field_columns,
              column = static_cast<int>(i) % report.field_columns;
    for (int c = 0; c < field.channels(); ++c) {
      const Image kernel = field.kernel(report.field[i].x, report.field[i].y, c, side_px);
      for (int y = 0; y < side_px; ++y) {
        std::ranges::copy(kernel.view().row(0, y),
                          picture.view()
                              .row(c, row * side_px + y)
                              .subspan(static_cast<std::size_t>(column * side_px))
                              .begin());
      }
    }
  }
  return picture;
}

FrameReport report_stars(const StarCatalogue& catalogue, const std::optional<PsfField>& field) {
  FrameReport report;
  std::vector<float> widths, ellipticities, eccentricities, betas;
  std::vector<std::vector<float>> by_channel(catalogue.sky.size());
  // pairs, whose width says little, do not make the few
  const auto good = std::ranges::count_if(catalogue.stars, [](const Star& star) {
    return !star.fits.empty() && !star.blended && well_measured(star);
  });
  const auto fitted =
      std::ranges::count_if(catalogue.stars, [](const Star& star) { return !star.fits.empty(); });
  const bool agree = field || fitted < too_many_to_disagree;
  constexpr int enough = 5;
  for (const Star& star : catalogue.stars) {
    report.stars_detected += star.artefact ? 0 : 1;
    report.stars_saturated += star.saturated ? 1 : 0;
    if (star.fits.empty() || !agree) continue;
    ++report.stars_used;
    if (good >= enough && !well_measured(star)) continue;
    widths.push_back(star.fwhm_px);
    ellipticities.push_back(star.ellipticity);
    const float ratio = 1 - star.ellipticity;
    eccentricities.push_back(std::sqrt(std::max(0.0F, 1 - ratio * ratio)));
    for (std::size_t c = 0; c < star.fits.size(); ++c) {
      if (star.fits[c].psf.fwhm_px <= 0) continue;
      by_channel[c].push_back(star.fits[c].psf.fwhm_px);
      betas.push_back(star.fits[c].psf.beta);
    }
  }
  if (report.stars_used == 0) {
    report.sampling_verdict = "unknown";
    report.sampling_reason = "no star could be measured";
    report.summary = why_unmeasured(
        report, fitted,
        std::ranges::any_of(catalogue.sky, [](const SkyLevel& level) { return level.sigma > 0; }));
    return report;
  }
  report.fwhm_px_median = median(widths);
  report.ellipticity_median = median(ellipticities);
  report.eccentricity_median = median(eccentricities);
  report.beta_median = median(betas);
  for (const auto& channel : by_channel) {
    report.fwhm_px_per_channel.push_back(channel.empty() ? 0.0F : median(channel));
  }
  const Verdict verdict = sampling_of(report.fwhm_px_median);
  report.sampling_verdict = verdict.verdict;
  report.sampling_reason = verdict.reason;
  report.summary = "Median star " + formatted("%.2f px", report.fwhm_px_median) +
                   " wide, ellipticity " + formatted("%.2f", report.ellipticity_median) + ". ";
  if (!field) {
    report.summary += "Too few stars to tell how they change over the frame.";
    return report;
  }
  fill_field(report, *field, catalogue.frame);
  describe_field(report, extremes_of(*field, catalogue.frame));
  return report;
}

}  // namespace limpid
