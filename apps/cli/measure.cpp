// limpid measure: stars, sky and the point spread function over the frame.
#include <limpid/io.h>
#include <limpid/network.h>

#include <cmath>
#include <cstdio>
#include <iomanip>
#include <sstream>

#include "measure.h"
#include "outputs.h"
#include "star_map.h"

namespace limpid::cli {
namespace {

using nlohmann::ordered_json;

struct Options {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path stars, picture, psf;
  float threshold = 5;
  int max_fits = 2000, image = 0;
  bool overwrite = false;
};

template <typename T>
ordered_json value_or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json shortest_all(const std::vector<float>& values) {
  auto list = ordered_json::array();
  for (const float value : values) list.push_back(shortest(value));
  return list;
}

ordered_json field_json(const FrameReport& report) {
  auto cells = ordered_json::array();
  for (const FrameReport::Cell& cell : report.field) {
    cells.push_back({{"x", shortest(cell.x)},
                     {"y", shortest(cell.y)},
                     {"fwhm_px", shortest(cell.fwhm_px)},
                     {"ellipticity", shortest(cell.ellipticity)},
                     {"eccentricity", shortest(cell.eccentricity)},
                     {"angle_rad", shortest(cell.angle_rad)},
                     {"beta", shortest(cell.beta)},
                     {"coma_x_px", shortest(cell.coma_x_px)},
                     {"coma_y_px", shortest(cell.coma_y_px)}});
  }
  return {
      {"columns", report.field_columns}, {"rows", report.field_rows}, {"cells", std::move(cells)}};
}

/// What the PSF field knows beyond the Moffat; null when stars are few or plain Moffats.
ordered_json effective_json(const Measurement& measured) {
  const EffectivePsf* effective = measured.field ? measured.field->effective() : nullptr;
  if (effective == nullptr) return nullptr;
  return {{"stars", effective->star_count()},
          {"order", effective->order()},
          {"reach_px", effective->reach_px()}};
}

/// The estimate for frames without measurable stars; null where there are some, or no answer.
ordered_json spectral_json(const Measurement& measured) {
  if (!measured.spectral) return nullptr;
  return {{"fwhm_px", shortest(measured.spectral->fwhm_px)},
          {"relative_error", shortest(measured.spectral->relative_error)}};
}

std::string joined(const std::vector<float>& values, int digits) {
  std::ostringstream text;
  text << std::setprecision(digits);
  for (std::size_t i = 0; i < values.size(); ++i) text << (i == 0 ? "" : "  ") << values[i];
  return text.str();
}

std::string to_text(const std::filesystem::path& path, const Measurement& measured) {
  const FrameReport& report = measured.report;
  const Size size = measured.catalogue.frame;
  std::vector<float> sky, noise;
  for (const SkyLevel& level : measured.catalogue.sky) {
    sky.push_back(level.sky);
    noise.push_back(level.sigma);
  }
  std::ostringstream text;
  const auto line = [&text](const char* name) -> std::ostream& {
    return text << "\n  " << std::left << std::setw(14) << name;
  };
  text << path.string() << ": " << size.width << " x " << size.height << ", " << sky.size()
       << (sky.size() == 1 ? " channel" : " channels");
  line("stars") << report.stars_detected << " detected, " << report.stars_used << " measured, "
                << report.stars_saturated << " saturated";
  if (report.stars_used > 0) {
    line("FWHM") << std::fixed << std::setprecision(2) << report.fwhm_px_median << " px";
    if (measured.pixel_scale)
      text << " = " << report.fwhm_px_median * *measured.pixel_scale << "\"";
    if (sky.size() > 1) text << " (channels " << joined(report.fwhm_px_per_channel, 3) << ")";
    line("ellipticity") << report.ellipticity_median << " (eccentricity "
                        << report.eccentricity_median << ")";
    line("Moffat beta") << report.beta_median << std::defaultfloat;
    line("sampling") << report.sampling_verdict << ": " << report.sampling_reason;
  }
  line("sky") << joined(sky, 6);
  line("noise") << joined(noise, 4);
  line("saturation");
  if (measured.catalogue.saturation) {
    text << std::setprecision(5) << *measured.catalogue.saturation;
  } else {
    text << "no clipped star";
  }
  for (std::size_t i = 0; i < report.field.size(); ++i) {
    if (i == 0) text << "\n  FWHM over the frame, px";
    if (i % static_cast<std::size_t>(report.field_columns) == 0) text << "\n   ";
    text << std::fixed << std::setprecision(2) << std::right << std::setw(6)
         << report.field[i].fwhm_px;
  }
  text << "\n  " << report.summary;
  if (measured.spectral) {
    text << std::fixed << std::setprecision(1) << "\n  The power spectrum tells of a PSF "
         << measured.spectral->fwhm_px << " px wide (known to " << std::setprecision(0)
         << 100 * measured.spectral->relative_error << " %).";
  }
  return text.str();
}

std::string stars_csv(const StarCatalogue& catalogue) {
  std::ostringstream text;
  text << "x,y,flux,peak,snr,fwhm_px,ellipticity,saturated,blended,on_edge,artefact,channel,fit_x,"
          "fit_y,x_error,y_error,fit_flux,flux_error,fit_fwhm_px,fwhm_error,e1,e2,"
          "ellipticity_error,beta,fit_sky,chi2\n";
  for (const Star& star : catalogue.stars) {
    std::ostringstream common;
    common << std::setprecision(8) << star.x << ',' << star.y << ',' << std::setprecision(6)
           << star.flux << ',' << star.peak << ',' << star.snr << ',' << star.fwhm_px << ','
           << star.ellipticity << ',' << star.saturated << ',' << star.blended << ','
           << star.on_edge << ',' << star.artefact;
    if (star.fits.empty()) text << common.str() << ",,,,,,,,,,,,,,,\n";
    for (std::size_t c = 0; c < star.fits.size(); ++c) {
      const StarFit& fit = star.fits[c];
      if (fit.psf.fwhm_px <= 0) continue;
      text << common.str() << ',' << c << ',' << std::setprecision(8) << fit.x << ',' << fit.y
           << ',' << std::setprecision(6) << fit.x_error << ',' << fit.y_error << ',' << fit.flux
           << ',' << fit.flux_error << ',' << fit.psf.fwhm_px << ',' << fit.fwhm_error << ','
           << fit.psf.e1 << ',' << fit.psf.e2 << ',' << fit.ellipticity_error << ',' << fit.psf.beta
           << ',' << fit.sky << ',' << fit.chi2 << '\n';
    }
  }
  return text.str();
}

void write_text(const std::filesystem::path& path, const std::string& text, bool overwrite) {
  write_file_atomically(path, text.data(), text.size(), overwrite);
}

Result measure(const Job& job, const Options& options, int threads, const Progress& progress) {
  if (!options.psf.empty())
    check_writable(options.psf, {.depth = Depth::f32, .overwrite = options.overwrite});
  if (!options.picture.empty() && options.picture.extension() != ".svg")
    throw Error(ErrorKind::usage, options.picture.string() + ": the picture is SVG; name it .svg");
  check_outputs({options.stars, options.picture, options.psf}, options.overwrite, {job.input});
  const Frame frame = read_frame(job.input, {.image = options.image}, progress.part(0, 0.3));
  for (const std::string& note : frame.metadata.notes) progress.say(note);
  Measurement measured = measure_frame(
      frame.image.view(),
      {.threshold_sigma = options.threshold, .max_fits = options.max_fits, .threads = threads},
      progress.part(0.3, 1));
  measured.pixel_scale = pixel_scale_arcsec(frame.metadata);
  if (!options.psf.empty() && !measured.field)
    throw Error(ErrorKind::failed, job.input.string() + ": too few stars for a PSF field");
  if (!options.stars.empty()) {
    write_text(options.stars, stars_csv(measured.catalogue), options.overwrite);
  }
  if (!options.psf.empty()) {
    Frame field;
    field.image = picture_psf_field(*measured.field, measured.report, psf_kernel_px);
    field.metadata.format = "fits";
    write_frame(options.psf, field, {.depth = Depth::f32, .overwrite = options.overwrite});
  }
  if (!options.picture.empty()) {
    std::vector<std::vector<RadialPoint>> profiles;
    for (int c = 0; c < frame.image.channels(); ++c) {
      profiles.push_back(measure_radial_profile(frame.image.view(), measured.catalogue, c));
    }
    write_text(options.picture, star_map_svg(measured.catalogue, measured.report, profiles),
               options.overwrite);
  }
  return {to_json(measured), to_text(job.input, measured)};
}

}  // namespace

Measurement measure_frame(ConstView frame, const DetectOptions& options, const Progress& progress) {
  Measurement measured;
  measured.catalogue = detect_stars(frame, options, progress);
  measured.field = fit_psf_field(frame, measured.catalogue, options.threads);
  if (!measured.field) measured.spectral = estimate_psf_from_spectrum(frame, options.threads);
  measured.report = report_stars(measured.catalogue, measured.field);
  return measured;
}

ordered_json to_json(const Measurement& measured) {
  const FrameReport& report = measured.report;
  auto sky = ordered_json::array(), noise = ordered_json::array();
  for (const SkyLevel& level : measured.catalogue.sky) {
    sky.push_back(shortest(level.sky));
    noise.push_back(shortest(level.sigma));
  }
  const auto& saturation = measured.catalogue.saturation;
  ordered_json json{
      {"fwhm_px",
       {{"median", shortest(report.fwhm_px_median)},
        {"per_channel", shortest_all(report.fwhm_px_per_channel)}}},
      {"ellipticity", {{"median", shortest(report.ellipticity_median)}}},
      {"eccentricity", {{"median", shortest(report.eccentricity_median)}}},
      {"beta", {{"median", shortest(report.beta_median)}}},
      {"stars",
       {{"detected", report.stars_detected},
        {"used", report.stars_used},
        {"saturated", report.stars_saturated}}},
      {"sky", std::move(sky)},
      {"noise", std::move(noise)},
      {"saturation", saturation ? ordered_json(shortest(*saturation)) : ordered_json(nullptr)},
      {"pixel_scale_arcsec", value_or_null(measured.pixel_scale)},
      {"sampling", {{"verdict", report.sampling_verdict}, {"reason", report.sampling_reason}}},
      {"tilt", shortest(report.tilt)},
      {"off_axis", shortest(report.off_axis)},
      {"field_order",
       measured.field ? ordered_json(measured.field->order()) : ordered_json(nullptr)},
      {"effective_psf", effective_json(measured)},
      {"spectral_psf", spectral_json(measured)},
      {"field", field_json(report)},
      {"summary", report.summary}};
  if (measured.pixel_scale && report.stars_used > 0) {
    json["fwhm_arcsec"] = {{"median", report.fwhm_px_median * *measured.pixel_scale}};
  }
  return json;
}

void add_measure(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  Command command(app, common, "measure",
                  "Measures stars, sky and how sharp the frame is from place to place.",
                  "limpid measure m31.fits --stars m31.csv --picture m31.svg");
  command.inputs(options->inputs, "frames: FITS, XISF, TIFF, PNG or JPEG")
      .option("--stars", options->stars, "table of all stars, as CSV")
      .option("--picture", options->picture,
              "map of FWHM and ellipticity, and the radial profile, as SVG")
      .option("--psf", options->psf,
              "frame that holds the PSF at the places of `field`, 64 px each, side by side")
      .option("--threshold", options->threshold, {3, 100}, "detection limit in units of the noise")
      .option("--max-fits", options->max_fits, {1, 100000}, "stars measured at most")
      .option("--image", options->image, {0, 9999}, "which image of a file that holds several")
      .flag("--overwrite", options->overwrite, "replace existing files");
  command.run([options, common] {
    if (options->inputs.size() > 1 &&
        !(options->stars.empty() && options->picture.empty() && options->psf.empty())) {
      throw Error(ErrorKind::usage, "--stars, --picture and --psf: give one frame at a time");
    }
    common.for_each(options->inputs, {}, "", [&](const Job& job, const Progress& progress) {
      return measure(job, *options, common.threads(), progress);
    });
  });
}

}  // namespace limpid::cli
