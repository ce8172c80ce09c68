#include <limpid/trust.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>

#include "core/parallel.h"
#include "measure/moffat.h"
#include "measure/neighbours.h"
#include "restore/star_comparison.h"

namespace limpid {
namespace {

double quantile(std::vector<double>& values, double share) {
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

MedianAndScatter describe(std::vector<double> values) {
  if (values.empty()) return {};
  return {quantile(values, 0.5), (quantile(values, 0.84) - quantile(values, 0.16)) / 2};
}

/// One star, mean over its channels; of widths the geometric mean, as the PSF that is wanted has
/// it.
struct Figures {
  double x = 0, y = 0, flux = 0, fwhm_px = 0, ellipticity = 0;
};

/// Light within `reach` px of a place, over the median of what lies further out in the cutout;
/// where the mask hides a pixel, others as far from the place stand in for it. The flux of a fit
/// reaches to infinity: where wide wings drive beta towards 1 it is a guess.
double aperture_flux(ConstView cutout, ConstView mask, double x, double y, double reach) {
  struct Ring {
    double sum = 0, seen = 0, all = 0;
  };
  std::vector<Ring> rings(static_cast<std::size_t>(reach) + 1);
  std::vector<double> outside;
  for (int j = 0; j < cutout.height(); ++j) {
    for (int i = 0; i < cutout.width(); ++i) {
      const double dx = i - x, dy = j - y, away = std::sqrt(dx * dx + dy * dy);
      const float value = cutout(0, j, i);
      const bool hidden = mask(0, j, i) != 0 || !std::isfinite(value);
      if (away > reach) {
        if (!hidden) outside.push_back(value);
        continue;
      }
      Ring& ring = rings[static_cast<std::size_t>(away)];
      ring.all += 1;
      if (hidden) continue;
      ring.sum += value;
      ring.seen += 1;
    }
  }
  if (outside.empty()) return 0;
  const double sky = quantile(outside, 0.5);
  double sum = 0;
  for (const Ring& ring : rings) {
    if (ring.seen > 0) sum += ring.all * (ring.sum / ring.seen - sky);
  }
  return sum;
}

/// A square of 2 `reach` + 1 px about a star, cut at the frame's edges.
Rect box_around(const Star& star, int reach, Size frame) {
  const int x0 = static_cast<int>(std::lround(star.x)), y0 = static_cast<int>(std::lround(star.y));
  return intersect({x0 - reach, y0 - reach, 2 * reach + 1, 2 * reach + 1},
                   {0, 0, frame.width, frame.height});
}

/// 1 where other stars shine in the box; those with less than a thousandth of its light do not
/// count.
Image mask_others(Rect box, const Star& star, const std::vector<const Star*>& others) {
  Image mask(1, box.size());
  for (const Star* other : others) {
    const double away =
        std::hypot(static_cast<double>(other->x - star.x), static_cast<double>(other->y - star.y));
    const double share =
        static_cast<double>(other->flux) / std::max(1e-30, static_cast<double>(star.flux));
    if (share < 1e-3) continue;
    const double radius = std::min(0.6 * away, static_cast<double>(star.fwhm_px) *
                                                   (1 + 0.3 * std::max(0.0, std::log2(share))));
    for (int y = 0; y < box.height; ++y) {
      for (int x = 0; x < box.width; ++x) {
        const double dx = box.x + x - static_cast<double>(other->x),
                     dy = box.y + y - static_cast<double>(other->y);
        if (dx * dx + dy * dy < radius * radius) mask.view()(0, y, x) = 1;
      }
    }
  }
  return mask;
}

/// How much light a star has gained, mean over the channels: in the difference of the frames, where
/// nebulae cancel and the aperture may be so wide that it holds the wings of both. An aperture on
/// each frame that is narrow enough for crowded skies finds 3 to 7 % more light in a perfectly
/// sharpened night, whose wings it holds, than in the recorded one.
double light_gained(ConstView before, ConstView after, const Star& star,
                    const std::vector<const Star*>& others, int reach) {
  const Rect box = box_around(star, reach + reach / 4, before.size());
  const Image mask = mask_others(box, star, others);
  Image change(1, box.size());
  double gained = 0;
  for (int c = 0; c < before.channels(); ++c) {
    for (int y = 0; y < box.height; ++y) {
      for (int x = 0; x < box.width; ++x)
        change.view()(0, y, x) = after(c, box.y + y, box.x + x) - before(c, box.y + y, box.x + x);
    }
    gained += aperture_flux(change.view(), mask.view(), static_cast<double>(star.x) - box.x,
                            static_cast<double>(star.y) - box.y, reach) /
              before.channels();
  }
  return gained;
}

/// The same fit before and after, so that its faults cancel: a Moffat on a sloping sky in a cutout
/// of `reach` px, neighbours left out. Nothing when a channel cannot be fitted.
std::optional<Figures> fit_star(ConstView frame, const StarCatalogue& catalogue, const Star& star,
                                const std::vector<const Star*>& others, int reach,
                                double fwhm_ratio) {
  const Rect box = box_around(star, reach, frame.size());
  const Image mask = mask_others(box, star, others);
  Figures mean;
  double log_fwhm = 0;
  const double channels = frame.channels();
  for (int c = 0; c < frame.channels(); ++c) {
    const StarFit& known = star.fits[static_cast<std::size_t>(c)];
    if (known.psf.fwhm_px <= 0) return std::nullopt;
    MoffatOptions options;
    options.sky_sigma = catalogue.sky[static_cast<std::size_t>(c)].sigma;
    options.model_error = 0.03;
    options.sloping_sky = true;
    options.mask = mask.view();
    const MoffatStart start{static_cast<double>(known.x) - box.x,
                            static_cast<double>(known.y) - box.y,
                            fwhm_ratio * static_cast<double>(known.psf.fwhm_px),
                            known.psf.beta,
                            0,
                            0};
    const auto fit = fit_moffat(frame.channel(c).crop(box), start, options);
    if (!fit || std::hypot(fit->value.x - start.x, fit->value.y - start.y) >
                    static_cast<double>(known.psf.fwhm_px))
      return std::nullopt;
    mean.x += (fit->value.x + box.x) / channels;
    mean.y += (fit->value.y + box.y) / channels;
    mean.flux +=
        aperture_flux(frame.channel(c).crop(box), mask.view(), start.x, start.y, reach) / channels;
    log_fwhm += std::log(fit->value.fwhm_px) / channels;
    mean.ellipticity += static_cast<double>(fit->psf().ellipticity()) / channels;
  }
  mean.fwhm_px = std::exp(log_fwhm);
  return mean;
}

/// Mean over the channels of the pixels' own noise: median of nine windows over the frame.
double noise_of(ConstView frame, int threads) {
  constexpr int window = 384, across = 3;
  std::vector<double> windows(across * across);
  parallel_for(across * across, threads, [&](int i) {
    const Rect part =
        intersect({(frame.width() - window) * (i % across) / (across - 1),
                   (frame.height() - window) * (i / across) / (across - 1), window, window},
                  {0, 0, frame.width(), frame.height()});
    double& mean = windows[static_cast<std::size_t>(i)];
    for (const SkyLevel& level : measure_sky(frame.crop(part)))
      mean += static_cast<double>(level.sigma) / frame.channels();
  });
  return quantile(windows, 0.5);
}

constexpr float least_snr = 30;

/// Far enough to hold the stars' wings.
int reach_of(const std::vector<const Star*>& stars) {
  if (stars.empty()) return 0;
  std::vector<double> widths;
  for (const Star* star : stars) widths.push_back(static_cast<double>(star->fwhm_px));
  return static_cast<int>(std::ceil(2.5 * quantile(widths, 0.5))) + 3;
}

}  // namespace

// ---- the stars of a frame, before and after ----------------------------------------------------

struct StarComparison::Body {
  Body(const StarCatalogue& all, ConstView frame, std::size_t most_stars)
      : catalogue(all),
        before(frame),
        stars(bright_isolated_stars(all, most_stars, least_snr)),
        reach(reach_of(stars)),
        neighbourhood(all, std::max(16, 4 * reach)),
        first(stars.size()) {}

  /// `gains`: whether the light is compared, too.
  [[nodiscard]] std::vector<std::optional<Figures>> figures_of(ConstView after, double fwhm_ratio,
                                                               bool gains, int threads,
                                                               const Progress& progress) const {
    std::vector<std::optional<Figures>> second(stars.size());
    parallel_for(static_cast<int>(stars.size()), threads, [&](int i) {
      const auto at = static_cast<std::size_t>(i);
      if (progress.stop.stop_requested() || !first[at]) return;
      const auto others = neighbourhood.around(*stars[at]);
      second[at] = fit_star(after, catalogue, *stars[at], others, reach, fwhm_ratio);
      if (second[at] && gains)
        second[at]->flux =
            first[at]->flux + light_gained(before, after, *stars[at], others, 2 * reach);
    });
    progress.throw_if_stopped();
    return second;
  }

  const StarCatalogue& catalogue;
  ConstView before;
  std::vector<const Star*> stars;
  int reach;
  Neighbourhood neighbourhood;
  std::vector<std::optional<Figures>> first;
};

StarComparison::StarComparison(const StarCatalogue& catalogue, ConstView before, int threads,
                               const Progress& progress, std::size_t most_stars)
    : body_(std::make_unique<Body>(catalogue, before, most_stars)) {
  parallel_for(static_cast<int>(body_->stars.size()), threads, [&](int i) {
    if (progress.stop.stop_requested()) return;
    const Star& star = *body_->stars[static_cast<std::size_t>(i)];
    body_->first[static_cast<std::size_t>(i)] =
        fit_star(before, catalogue, star, body_->neighbourhood.around(star), body_->reach, 1);
  });
  progress.throw_if_stopped();
}

StarComparison::~StarComparison() = default;

WidthRatio StarComparison::width_ratio(ConstView after, double fwhm_ratio_asked, int threads,
                                       const Progress& progress) const {
  const auto second = body_->figures_of(after, fwhm_ratio_asked, false, threads, progress);
  std::vector<double> ratios;
  for (std::size_t i = 0; i < second.size(); ++i) {
    const auto& first = body_->first[i];
    if (first && second[i] && first->flux > 0)
      ratios.push_back(second[i]->fwhm_px / first->fwhm_px);
  }
  const auto count = static_cast<int>(ratios.size());
  return {count, describe(std::move(ratios)).median};
}

WidthRatio StarComparison::width_over(const PsfField& field) const {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < body_->stars.size(); ++i) {
    const Star& star = *body_->stars[i];
    if (const auto& first = body_->first[i])
      ratios.push_back(first->fwhm_px / static_cast<double>(field.mean_at(star.x, star.y).fwhm_px));
  }
  const auto count = static_cast<int>(ratios.size());
  return {count, describe(std::move(ratios)).median};
}

TrustReport compare_stars(const StarCatalogue& catalogue, ConstView before, ConstView after,
                          double fwhm_ratio_asked, int threads, const Progress& progress) {
  TrustReport report;
  report.fwhm_ratio_asked = fwhm_ratio_asked;
  const double noise_before = noise_of(before, threads);
  report.noise_ratio = noise_before > 0 ? noise_of(after, threads) / noise_before : 0;

  const StarComparison comparison(catalogue, before, threads, progress);
  const auto& stars = comparison.body().stars;
  const auto& first = comparison.body().first;
  const auto second =
      comparison.body().figures_of(after, fwhm_ratio_asked, true, threads, progress);
  std::vector<double> flux, shift, fwhm, round_before, round_after;
  for (std::size_t i = 0; i < stars.size(); ++i) {
    if (!first[i] || !second[i] || !(first[i]->flux > 0)) continue;
    flux.push_back(second[i]->flux / first[i]->flux);
    shift.push_back(std::hypot(second[i]->x - first[i]->x, second[i]->y - first[i]->y));
    fwhm.push_back(second[i]->fwhm_px / first[i]->fwhm_px);
    round_before.push_back(first[i]->ellipticity);
    round_after.push_back(second[i]->ellipticity);
    report.stars.push_back({stars[i]->x, stars[i]->y, first[i]->flux, second[i]->flux,
                            first[i]->fwhm_px, second[i]->fwhm_px, shift.back(),
                            first[i]->ellipticity, second[i]->ellipticity});
  }
  report.stars_compared = static_cast<int>(flux.size());
  report.flux_ratio = describe(std::move(flux));
  report.centroid_shift_px = describe(std::move(shift));
  report.fwhm_ratio = describe(std::move(fwhm));
  report.ellipticity_before = describe(std::move(round_before));
  report.ellipticity_after = describe(std::move(round_after));
  std::array<char, 400> text{};
  if (report.stars_compared == 0) {
    report.summary = "No isolated star could be compared before and after.";
  } else {
    std::snprintf(text.data(), text.size(),
                  "%d stars compared: %.2f times as wide (asked %.2f), flux %+.1f %%, moved by "
                  "%.2f px, ellipticity %.3f (before %.3f); sky noise %.2f times.",
                  report.stars_compared, report.fwhm_ratio.median, fwhm_ratio_asked,
                  100 * (report.flux_ratio.median - 1), report.centroid_shift_px.median,
                  report.ellipticity_after.median, report.ellipticity_before.median,
                  report.noise_ratio);
    report.summary = text.data();
  }
  return report;
}

}  // namespace limpid
