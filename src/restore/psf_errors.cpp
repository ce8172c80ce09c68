#include "restore/psf_errors.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/statistics.h"
#include "restore/star_comparison.h"

namespace limpid {
namespace {

constexpr float well_known = 0.02F;  // relative error of a width that tells
constexpr int most_compared = 48, fewest_compared = 5;
constexpr double most_bias = 1.15;

}  // namespace

PsfErrors measure_psf_errors(ConstView frame, const StarCatalogue& catalogue, const PsfField& field,
                             int threads) {
  std::vector<float> widths, shapes;
  for (const Star& star : catalogue.stars) {
    if (star.saturated || star.blended || star.artefact || star.on_edge) continue;
    for (std::size_t c = 0; c < star.fits.size(); ++c) {
      const StarFit& fit = star.fits[c];
      if (fit.psf.fwhm_px == 0 || fit.fwhm_error > well_known * fit.psf.fwhm_px) continue;
      const Psf usual = field.at(star.x, star.y, static_cast<int>(c));
      widths.push_back(std::abs(std::log(fit.psf.fwhm_px / usual.fwhm_px)));
      shapes.push_back(std::abs(fit.psf.e1 - usual.e1));
      shapes.push_back(std::abs(fit.psf.e2 - usual.e2));
    }
  }
  PsfErrors errors;
  if (widths.empty()) return errors;
  const auto at_least = [](double least, const std::vector<float>& misses) {
    return std::max(least, static_cast<double>(sigma_per_mad * median(misses)));
  };
  errors.width = at_least(errors.width, widths);
  errors.ellipticity = at_least(errors.ellipticity, shapes);
  const WidthRatio ratio =
      StarComparison(catalogue, frame, threads, {}, most_compared).width_over(field);
  if (ratio.stars >= fewest_compared)
    errors.core_width = std::clamp(ratio.median, 1 / most_bias, most_bias);
  return errors;
}

}  // namespace limpid
