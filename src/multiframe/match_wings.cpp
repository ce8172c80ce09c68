#include "multiframe/match_wings.h"

#include <algorithm>
#include <cmath>

#include "measure/moffat.h"

namespace limpid::multiframe {
namespace {

/// How much log beta differs between frames of one instrument, and between the stars of a frame.
constexpr float own_spread = 0.15F;

bool takes_part(const Measured& m) { return m.fault.empty() && m.beta > 0; }

/// FWHM of the Moffat of exponent `to` that is most like one of `from`, over the latter's.
float width_factor(float fwhm_px, float from, float to) {
  const Psf psf{fwhm_px, from, 0, 0, 0, 0};
  const int reach = static_cast<int>(std::ceil(2.5F * fwhm_px));
  MoffatOptions options;
  options.fixed_beta = static_cast<double>(to);
  const auto fit = fit_moffat(psf.kernel(2 * reach + 1).view(),
                              {static_cast<double>(reach), static_cast<double>(reach),
                               static_cast<double>(fwhm_px), static_cast<double>(to), 0, 0},
                              options);
  return fit ? static_cast<float>(fit->value.fwhm_px) / fwhm_px : 1;
}

}  // namespace

float wing_weight(const StarCatalogue& catalogue) {
  constexpr float usual_beta = 3;
  double weight = 0;
  for (const Star& star : catalogue.stars) {
    if (star.saturated || star.blended || star.artefact) continue;
    for (const StarFit& fit : star.fits) {
      if (!(fit.beta_error > 0)) continue;
      // of 1 / beta the error is nearly the same whatever its value
      const float error = usual_beta * fit.beta_error / (fit.psf.beta * fit.psf.beta);
      weight += 1 / static_cast<double>(error * error * std::max(fit.chi2, 1.0F) +
                                        own_spread * own_spread);
    }
  }
  return static_cast<float>(weight /
                            static_cast<double>(std::max<std::size_t>(catalogue.sky.size(), 1)));
}

void match_wings(std::vector<Measured>& measured) {
  double weights = 0, sum = 0;
  for (const Measured& m : measured) {
    if (!takes_part(m)) continue;
    weights += static_cast<double>(m.wing_weight);
    sum += static_cast<double>(m.wing_weight * std::log(m.beta));
  }
  if (!(weights > 0)) return;
  const auto common = static_cast<float>(sum / weights);
  constexpr float firm = 1 / (own_spread * own_spread);
  for (Measured& m : measured) {
    if (!takes_part(m)) continue;
    const float own = std::log(m.beta);
    const float beta = std::exp((m.wing_weight * own + firm * common) / (m.wing_weight + firm));
    m.member.beta_factor = beta / m.beta;
    m.member.fwhm_factor = width_factor(m.fwhm_px, m.beta, beta);
    m.beta = beta;
    m.fwhm_px *= m.member.fwhm_factor;
  }
}

}  // namespace limpid::multiframe
