// Finds the stars of a frame and measures them.
#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include <limpid/stars.h>

#include "core/binned.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/candidates.h"
#include "measure/matched_filter.h"
#include "measure/moffat.h"
#include "measure/saturation.h"
#include "measure/sky.h"
#include "measure/star_fits.h"

namespace limpid {
namespace {

constexpr int noise_cell_px = 64;

/// Distance from the peak at which the light has halved, mean of four directions, px.
float half_width(ConstView detection, const Peak& peak) {
  const float half = 0.5F * detection(0, peak.y, peak.x);
  constexpr int furthest = 24;
  float sum = 0;
  for (const auto& [dx, dy] :
       std::array<std::pair<int, int>, 4>{{{1, 0}, {-1, 0}, {0, 1}, {0, -1}}}) {
    float before = 2 * half, reached = furthest;
    for (int step = 1; step <= furthest; ++step) {
      const int x = peak.x + step * dx, y = peak.y + step * dy;
      if (x < 0 || y < 0 || x >= detection.width() || y >= detection.height()) break;
      const float value = detection(0, y, x);
      if (value <= half) {
        reached = static_cast<float>(step - 1) + (before - half) / std::max(before - value, 1e-20F);
        break;
      }
      before = value;
    }
    sum += reached;
  }
  return sum / 4;
}

/// Mode by halving again and again the shortest interval that holds half of the samples
/// (Bickel & Frühwirth 2006, Comput. Stat. Data Anal. 50, 3500).
float half_sample_mode(std::vector<float> samples) {
  std::ranges::sort(samples);
  std::span<const float> rest = samples;
  while (rest.size() > 3) {
    const std::size_t half = (rest.size() + 1) / 2;
    std::size_t best = 0;
    for (std::size_t i = 1; i + half <= rest.size(); ++i) {
      if (rest[i + half - 1] - rest[i] < rest[best + half - 1] - rest[best]) best = i;
    }
    rest = rest.subspan(best, half);
  }
  return median(rest);
}

struct Shape {
  float fwhm_px, beta;
};

constexpr int widest_reach_px = 60;
int reach_of_fit(float half) {
  return std::clamp(static_cast<int>(std::ceil(6 * half)), 5, widest_reach_px);
}

std::optional<MoffatFit> fit_on_detection(ConstView detection, const Peak& peak,
                                          std::optional<double> beta) {
  const float half = half_width(detection, peak);
  const int reach = reach_of_fit(half);
  const Rect box = intersect({peak.x - reach, peak.y - reach, 2 * reach + 1, 2 * reach + 1},
                             {0, 0, detection.width(), detection.height()});
  MoffatOptions options;
  options.sky_sigma = 1;
  options.model_error = 0.05;
  options.fixed_beta = beta;
  const MoffatStart start{static_cast<double>(peak.x - box.x),
                          static_cast<double>(peak.y - box.y),
                          std::max(1.0, 2.0 * half),
                          3,
                          0,
                          0};
  return fit_moffat(detection.crop(box), start, options);
}

/// Whether what is bright is so wide that fits of it would take seconds and tell no more than those
/// of a frame of half as many pixels per side: nebulae without stars.
bool is_wide(ConstView detection, const std::vector<Peak>& peaks) {
  constexpr double many_pixels = 300000;
  double pixels = 0;
  std::vector<int> reaches;
  for (const Peak& peak : peaks) {
    reaches.push_back(reach_of_fit(half_width(detection, peak)));
    pixels += (2.0 * reaches.back() + 1) * (2.0 * reaches.back() + 1);
  }
  if (pixels < many_pixels) return false;
  const auto wide = std::ranges::count(reaches, widest_reach_px);
  return 2 * static_cast<std::size_t>(wide) > reaches.size();
}

/// The width that most bright peaks share. Hot pixels are narrower, galaxies and clipped stars
/// wider, and neither crowd around one width as stars do. Nothing when there is no peak to fit.
std::optional<Shape> typical_shape(ConstView detection, const std::vector<Peak>& peaks,
                                   int threads) {
  constexpr std::size_t most = 120;
  std::vector<Peak> bright = peaks;
  std::ranges::stable_sort(bright, [](const Peak& a, const Peak& b) { return a.snr > b.snr; });
  const auto enough =
      std::ranges::partition_point(bright, [](const Peak& p) { return p.snr > 20; });
  bright.resize(std::clamp(static_cast<std::size_t>(enough - bright.begin()),
                           std::min<std::size_t>(bright.size(), 20), bright.size()));
  std::vector<Peak> chosen;
  const std::size_t count = std::min(most, bright.size());
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(bright[i * bright.size() / count]);

  constexpr int least_px = 32;
  if (std::min(detection.width(), detection.height()) >= 2 * least_px &&
      is_wide(detection, chosen)) {
    for (Peak& peak : chosen) {
      peak.x = std::min(peak.x, detection.width() / 2 * 2 - 1) / 2;
      peak.y = std::min(peak.y, detection.height() / 2 * 2 - 1) / 2;
    }
    Image coarse = binned(detection, 2);
    for (float& pixel : coarse.pixels()) pixel *= 2;  // the noise stays what it was
    auto shape = typical_shape(coarse.view(), chosen, threads);
    if (shape) shape->fwhm_px *= 2;
    return shape;
  }

  std::vector<std::optional<MoffatFit>> fits(chosen.size());
  const auto fit_all = [&](std::optional<double> beta) {
    parallel_for(static_cast<int>(chosen.size()), threads, [&](int i) {
      const auto slot = static_cast<std::size_t>(i);
      fits[slot] = fit_on_detection(detection, chosen[slot], beta);
    });
  };
  fit_all(3.0);
  std::vector<float> widths;
  for (const auto& fit : fits) {
    const bool sensible =
        fit && fit->value.fwhm_px > 0.55 && std::hypot(fit->value.e1, fit->value.e2) < 0.6;
    if (sensible) widths.push_back(static_cast<float>(std::log(fit->value.fwhm_px)));
  }
  if (widths.empty()) return std::nullopt;
  const float mode = half_sample_mode(widths);

  std::vector<Peak> stars;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (fits[i] && std::abs(std::log(fits[i]->value.fwhm_px) - mode) < 0.2)
      stars.push_back(chosen[i]);
  }
  chosen = std::move(stars);
  fits.assign(chosen.size(), std::nullopt);
  fit_all(std::nullopt);
  std::vector<float> betas;
  widths.clear();
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (!fits[i] || chosen[i].snr < 50) continue;
    betas.push_back(static_cast<float>(fits[i]->value.beta));
    widths.push_back(static_cast<float>(std::log(fits[i]->value.fwhm_px)));
  }
  if (betas.size() < 3) return Shape{std::exp(mode), 3};
  return Shape{std::exp(median(widths)), std::clamp(median(betas), 1.8F, 6.0F)};
}

/// Over bright nebulae, whose structure scatters more than noise, peaks of so many times the
/// threshold in units of the noise are looked at, too.
constexpr float point_thresholds = 1.6F;

/// The filtered frame's noise over the frame's roughness: that of the places with the least
/// structure for their noise, and no less than what independent noise has. Nothing where pixels do
/// not tell, as in frames of few levels.
std::optional<float> noise_to_roughness(const Mesh& scatter, const Mesh& rough, Size size,
                                        float white_gain) {
  std::vector<float> ratios;
  for (int y = noise_cell_px / 2; y < size.height; y += noise_cell_px) {
    for (int x = noise_cell_px / 2; x < size.width; x += noise_cell_px) {
      const auto u = static_cast<float>(x), v = static_cast<float>(y);
      const float noise = rough.at(u / 2, v / 2);
      if (noise > 0) ratios.push_back(scatter.at(u, v) / noise);
    }
  }
  constexpr double least_structure = 0.1;
  if (ratios.empty()) return std::nullopt;
  return std::max(quantile(ratios, least_structure), white_gain);
}

/// Of a frame whose pixels have noise 1, after the filter.
Mesh scatter_of(ConstView filtered, const Coverage& coverage, int threads) {
  return {filtered, coverage, noise_cell_px, lower_scatter, threads};
}
float least_noise(const MatchedFilter& filter) { return 0.5F * filter.white_noise_gain(); }

/// `filtered` comes from `detection`, whose pixels have noise 1, through `filter`.
std::vector<Peak> find_candidates(ConstView detection, ConstView filtered, const Coverage& coverage,
                                  const MatchedFilter& filter, float threshold, int threads) {
  const Mesh scatter = scatter_of(filtered, coverage, threads);
  const Image rough = roughness(detection, threads);
  const Mesh rough_scatter(rough.view(), Coverage(rough.view()), noise_cell_px / 2, lower_scatter,
                           threads);
  FilteredNoise noise{.scatter = scatter, .least = least_noise(filter)};
  if (const auto ratio =
          noise_to_roughness(scatter, rough_scatter, detection.size(), filter.white_noise_gain())) {
    noise.roughness = &rough_scatter;
    noise.noise_to_roughness = *ratio;
  }
  return find_peaks(filtered, noise, threshold, point_thresholds * threshold, threads);
}

/// The shape of the stars in the middle of a large frame, where there are enough of them, else in
/// all of it.
std::optional<Shape> find_shape(ConstView detection, int threads) {
  constexpr int middle_px = 2048;
  constexpr std::size_t enough = 60;
  constexpr float first_guess_px = 2.5F, first_threshold = 8;
  const MatchedFilter filter(first_guess_px);
  const Size size = detection.size();
  const Rect whole{0, 0, size.width, size.height};
  const Rect middle = intersect(
      whole, {(size.width - middle_px) / 2, (size.height - middle_px) / 2, middle_px, middle_px});
  for (const Rect part : {middle, whole}) {
    const ConstView view = detection.crop(part);
    const Image filtered = filter.apply(view, threads);
    const Mesh scatter = scatter_of(filtered.view(), Coverage(filtered.view()), threads);
    const auto peaks =
        find_peaks(filtered.view(), {.scatter = scatter, .least = least_noise(filter)},
                   first_threshold, first_threshold, threads);
    if (part == whole || peaks.size() >= enough) return typical_shape(view, peaks, threads);
  }
  return std::nullopt;
}

struct Scene {
  SkyModel sky;
  Image detection;
};
Scene prepare(ConstView frame, int cell_px, int threads) {
  SkyModel sky = model_sky(frame, cell_px, threads);
  Image detection = detection_frame(frame, sky, threads);
  return {std::move(sky), std::move(detection)};
}

/// The finer the mesh, the less nebulosity is left; but the cells must be large against the stars.
constexpr int finest_cell_px = 32, coarsest_cell_px = 128;

StarTemplate find_template(ConstView frame, Scene& scene, int threads) {
  constexpr float widest_px = 20;
  Shape shape{2.5F, 3};
  for (int cell_px = finest_cell_px;;) {
    shape = find_shape(scene.detection.view(), threads).value_or(shape);
    if (static_cast<float>(cell_px) >= 8 * shape.fwhm_px || cell_px >= coarsest_cell_px) break;
    while (cell_px < coarsest_cell_px && static_cast<float>(cell_px) < 8 * shape.fwhm_px)
      cell_px *= 2;
    scene = prepare(frame, cell_px, threads);
  }
  return StarTemplate(std::min(shape.fwhm_px, widest_px), shape.beta);
}

/// Noise after the filter over what pixels with independent noise would give; 1 for such.
float noise_correlation(ConstView detection, ConstView filtered, const Coverage& coverage,
                        const MatchedFilter& filter, int threads) {
  const SkyLevel before = measure_sky_channel(detection, Coverage(detection), threads);
  const SkyLevel after = measure_sky_channel(filtered, coverage, threads);
  if (before.sigma <= 0) return 1;
  return std::max(1.0F, after.sigma / (before.sigma * filter.white_noise_gain()));
}

/// How far a star's fits are off the field, mean over the channels.
struct Deviation {
  double log_width = 0, width_error = 0, shape = 0, shape_error = 0;
};

Deviation deviation_of(const Star& star, const PsfField& expected) {
  Deviation mean;
  double count = 0;
  for (std::size_t c = 0; c < star.fits.size(); ++c) {
    const StarFit& fit = star.fits[c];
    if (fit.psf.fwhm_px == 0) continue;
    const Psf usual = expected.at(star.x, star.y, static_cast<int>(c));
    mean.log_width += std::log(fit.psf.fwhm_px / usual.fwhm_px);
    mean.width_error += fit.fwhm_error / fit.psf.fwhm_px;
    mean.shape += std::hypot(fit.psf.e1 - usual.e1, fit.psf.e2 - usual.e2);
    mean.shape_error += fit.ellipticity_error;
    count += 1;
  }
  return {mean.log_width / count, mean.width_error / count, mean.shape / count,
          mean.shape_error / count};
}

enum class Verdict { star, star_without_fit, none };

/// What fits tell of a star, and its flags: much wider than the stars around it is a galaxy, much
/// narrower an artefact, somewhat wider or longer an unresolved pair. But what is as sharp as a
/// point is one, and the nebula around it has spoilt its fit. `expected` is the field of all fits.
Verdict weigh_fits(Star& star, bool sharp, const PsfField& expected) {
  if (star.fits.empty()) return Verdict::star;
  constexpr double sure = 5;  // sigmas
  const Deviation off = deviation_of(star, expected);
  if (off.log_width < -0.5 && off.log_width < -sure * off.width_error) star.artefact = true;
  const bool wide = off.log_width > 0.15 && off.log_width > sure * off.width_error;
  const bool long_drawn = off.shape > 0.12 && off.shape > sure * off.shape_error;
  if (wide || long_drawn) star.blended = true;
  if (!wide || off.log_width <= 0.35) return Verdict::star;
  return sharp ? Verdict::star_without_fit : Verdict::none;
}

void summarise_fits(Star& star) {
  double flux = 0, log_fwhm = 0, e1 = 0, e2 = 0, x = 0, y = 0, count = 0;
  for (const StarFit& fit : star.fits) {
    if (fit.psf.fwhm_px == 0) continue;
    flux += fit.flux;
    log_fwhm += std::log(fit.psf.fwhm_px);
    e1 += fit.psf.e1;
    e2 += fit.psf.e2;
    x += fit.x;
    y += fit.y;
    count += 1;
  }
  if (count == 0) return;
  star.flux = static_cast<float>(flux);
  star.fwhm_px = static_cast<float>(std::exp(log_fwhm / count));
  star.ellipticity = static_cast<float>(std::hypot(e1, e2) / count);
  star.x = static_cast<float>(x / count);
  star.y = static_cast<float>(y / count);
}

}  // namespace

StarCatalogue detect_stars(ConstView frame, const DetectOptions& options,
                           const Progress& progress) {
  StarCatalogue catalogue;
  catalogue.frame = frame.size();
  if (frame.empty()) return catalogue;
  progress(0, "measuring the sky");
  Scene scene = prepare(frame, finest_cell_px, options.threads);
  catalogue.sky = scene.sky.level;
  const bool has_noise =
      std::ranges::any_of(scene.sky.level, [](SkyLevel l) { return l.sigma > 0; });
  constexpr int least_side = 7;
  if (!has_noise || std::min(frame.width(), frame.height()) < least_side) return catalogue;

  progress.throw_if_stopped();
  progress(0.2, "finding stars");
  const StarTemplate shape = find_template(frame, scene, options.threads);
  const Image& detection = scene.detection;
  const SkyModel& sky = scene.sky;
  progress.throw_if_stopped();
  progress(0.4, "finding stars");
  const Image filtered = shape.filter.apply(detection.view(), options.threads);
  const Coverage coverage(filtered.view());
  const auto peaks = find_candidates(detection.view(), filtered.view(), coverage, shape.filter,
                                     options.threshold_sigma, options.threads);
  const auto saturation = find_saturation(frame, peaks, sky, shape);
  for (const float level : saturation) {
    if (std::isfinite(level))
      catalogue.saturation = std::min(level, catalogue.saturation.value_or(level));
  }
  const CandidateInput judged{frame, detection.view(), sky,
                              shape, saturation,       options.threshold_sigma};
  const auto candidates = judge_peaks(judged, peaks, options.threads);

  progress.throw_if_stopped();
  progress(0.6, "fitting stars");
  constexpr int bright_count = 150;
  constexpr float bright_snr = 50, fitted_snr = 10;
  catalogue.noise_correlation =
      noise_correlation(detection.view(), filtered.view(), coverage, shape.filter, options.threads);
  const FitInput input{judged, candidates, catalogue.noise_correlation};
  const auto noise = learn_noise(
      input,
      choose_stars(candidates, frame.size(), std::min(bright_count, options.max_fits), bright_snr),
      options.threads);
  const auto chosen = choose_stars(candidates, frame.size(), options.max_fits, fitted_snr);
  for (const Candidate& candidate : candidates) catalogue.stars.push_back(candidate.star);
  parallel_for(static_cast<int>(chosen.size()), options.threads, [&](int i) {
    progress.throw_if_stopped();
    const int index = chosen[static_cast<std::size_t>(i)];
    catalogue.stars[static_cast<std::size_t>(index)].fits = fit_star(input, noise, index);
  });
  // What is bright and alone, and yet like no star of any width, is a knot of nebula or a galaxy;
  // but stars of one pixel leave the fit nothing to hold on to.
  constexpr float sure_snr = 15, resolved_px = 1.5F;
  std::vector<bool> none(candidates.size(), false);
  for (const int index : chosen) {
    const auto i = static_cast<std::size_t>(index);
    const Star& star = catalogue.stars[i];
    none[i] = shape.fwhm_px >= resolved_px && star.fits.empty() && star.snr >= sure_snr &&
              !candidates[i].sharp;
  }
  for (Star& star : catalogue.stars) summarise_fits(star);
  if (const auto expected = fit_psf_field(catalogue, {.max_order = 2})) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      Star& star = catalogue.stars[i];
      const Verdict verdict = weigh_fits(star, candidates[i].sharp, *expected);
      none[i] = none[i] || verdict == Verdict::none;
      if (verdict != Verdict::star_without_fit) continue;
      star = candidates[i].star;
      star.blended = true;
    }
  }
  std::erase_if(catalogue.stars, [&](const Star& star) {
    return none[static_cast<std::size_t>(&star - catalogue.stars.data())];
  });
  std::ranges::stable_sort(catalogue.stars,
                           [](const Star& a, const Star& b) { return a.flux > b.flux; });
  progress(1, "fitting stars");
  return catalogue;
}

}  // namespace limpid
