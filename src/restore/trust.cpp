#include <limpid/trust.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

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

/// Mean over the channels that were fitted in both.
double mean_of(const Star& star, double (*value)(const StarFit&)) {
  double sum = 0;
  for (const StarFit& fit : star.fits) sum += value(fit);
  return sum / static_cast<double>(star.fits.size());
}

}  // namespace

TrustReport compare_stars(const StarCatalogue& before, ConstView after, double fwhm_ratio_asked, int threads,
                          const Progress& progress) {
  TrustReport report;
  report.fwhm_ratio_asked = fwhm_ratio_asked;
  const StarCatalogue found = detect_stars(after, {.threads = threads}, progress);
  double noise_before = 0, noise_after = 0;
  for (const SkyLevel& level : before.sky) noise_before += static_cast<double>(level.sigma);
  for (const SkyLevel& level : found.sky) noise_after += static_cast<double>(level.sigma);
  report.noise_ratio = noise_before > 0 ? noise_after / noise_before : 0;

  // The nearest fitted star of the result, looked up by column.
  std::vector<const Star*> by_x;
  for (const Star& star : found.stars) {
    if (!star.fits.empty()) by_x.push_back(&star);
  }
  std::ranges::sort(by_x, {}, [](const Star* star) { return star->x; });
  std::vector<double> flux, shift, fwhm, round_before, round_after;
  for (const Star& star : before.stars) {
    if (star.fits.empty() || star.saturated || star.blended) continue;
    const float reach = std::max(1.0F, 0.4F * star.fwhm_px);
    const Star* match = nullptr;
    double nearest = static_cast<double>(reach);
    for (auto at = std::ranges::lower_bound(by_x, star.x - reach, {}, [](const Star* s) { return s->x; });
         at != by_x.end() && (*at)->x <= star.x + reach; ++at) {
      const double distance = std::hypot((*at)->x - star.x, (*at)->y - star.y);
      if (distance < nearest && (*at)->fits.size() == star.fits.size()) {
        nearest = distance;
        match = *at;
      }
    }
    if (match == nullptr || match->blended) continue;
    const auto flux_of = [](const StarFit& fit) { return static_cast<double>(fit.flux); };
    const auto fwhm_of = [](const StarFit& fit) { return static_cast<double>(fit.psf.fwhm_px); };
    const auto ellipticity_of = [](const StarFit& fit) { return static_cast<double>(fit.psf.ellipticity()); };
    flux.push_back(mean_of(*match, flux_of) / mean_of(star, flux_of));
    shift.push_back(nearest);
    fwhm.push_back(mean_of(*match, fwhm_of) / mean_of(star, fwhm_of));
    round_before.push_back(mean_of(star, ellipticity_of));
    round_after.push_back(mean_of(*match, ellipticity_of));
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
                  "%d stars compared: %.2f times as wide (asked %.2f), flux %+.1f %%, moved by %.2f px, ellipticity %.3f (before %.3f); sky noise %.2f times.",
                  report.stars_compared, report.fwhm_ratio.median, fwhm_ratio_asked, 100 * (report.flux_ratio.median - 1),
                  report.centroid_shift_px.median, report.ellipticity_after.median, report.ellipticity_before.median,
                  report.noise_ratio);
    report.summary = text.data();
  }
  return report;
}

}  // namespace limpid
