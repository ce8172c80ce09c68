// The fit of the PSF field: which fits are stars', and robust polynomials through them.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include <Eigen/Dense>

#include <limpid/stars.h>

#include "core/statistics.h"
#include "measure/polynomials.h"

namespace limpid {
namespace {

enum Quantity { log_fwhm, e1, e2, log_beta, shift_x, shift_y, quantity_count };

/// One star in one channel.
struct Sample {
  Eigen::VectorXd terms;  ///< of the place, of the highest order
  std::array<double, quantity_count> value{}, weight{};
  double width_error = 0;  ///< relative
  bool kept = true;
};

constexpr double prior_samples = 10;
constexpr int highest_field_order = 3;

struct Surface {
  std::vector<double> coefficients;
  Eigen::MatrixXd covariance;  ///< for unit variance of a sample of unit weight
};

/// Mean over the frame of the products of terms, less the product of their means: c' A c is how
/// much a polynomial varies over the frame.
Eigen::MatrixXd variation(int terms) {
  constexpr int side = 9;
  Eigen::MatrixXd products = Eigen::MatrixXd::Zero(terms, terms);
  Eigen::VectorXd mean = Eigen::VectorXd::Zero(terms);
  for (int i = 0; i < side * side; ++i) {
    const double u = 2.0 * (i % side) / (side - 1) - 1, v = 2.0 * (i / side) / (side - 1) - 1;
    const Eigen::VectorXd term = polynomial_terms(u, v, terms);
    products += term * term.transpose() / (side * side);
    mean += term / (side * side);
  }
  return products - mean * mean.transpose();
}

/// Weighted least squares; `in_use` chooses the samples.
template <typename InUse>
Surface fit_surface(const std::vector<Sample>& samples, Quantity quantity, int terms,
                    InUse in_use) {
  Eigen::MatrixXd normal = Eigen::MatrixXd::Zero(terms, terms);
  Eigen::VectorXd right = Eigen::VectorXd::Zero(terms);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (!in_use(i)) continue;
    const auto term = samples[i].terms.head(terms);
    normal += samples[i].weight[quantity] * term * term.transpose();
    right += samples[i].weight[quantity] * samples[i].value[quantity] * term;
  }
  // Where no stars are, a polynomial through those elsewhere goes anywhere: from the right half of
  // a frame to 7 px in the left one, where stars were 4.3 px wide. A prior of so much variation
  // over the frame, as firm as ten samples, holds it there and costs a per cent where stars are
  // many.
  constexpr std::array<double, quantity_count> usual{0.1, 0.1, 0.1, 0.2, 0.2, 0.2};
  normal += prior_samples / (usual[quantity] * usual[quantity]) * variation(terms);
  // A touch of ridge on the higher terms decides what stars all on one line leave open.
  for (int i = 1; i < terms; ++i) normal(i, i) += 1e-4 * normal(0, 0);
  const Eigen::LDLT<Eigen::MatrixXd> solver(normal);
  const Eigen::VectorXd solution = solver.solve(right);
  return {{solution.begin(), solution.end()},
          solver.solve(Eigen::MatrixXd::Identity(terms, terms))};
}

double residual(const Sample& sample, Quantity quantity, const Surface& surface) {
  const auto count = static_cast<Eigen::Index>(surface.coefficients.size());
  const Eigen::Map<const Eigen::VectorXd> coefficients(surface.coefficients.data(), count);
  return sample.value[quantity] - coefficients.dot(sample.terms.head(count));
}

constexpr std::array shape_quantities{log_fwhm, e1, e2};

/// What a single fit may be off by beside its error bar: neighbours not seen, a profile that is no
/// Moffat. Keeps the few brightest stars from deciding alone.
constexpr double fwhm_floor = 0.02, shape_floor = 0.01;

std::vector<Sample> samples_of(const StarCatalogue& catalogue, std::size_t channel) {
  std::vector<Sample> samples;
  constexpr double usual_beta = 3;
  for (const Star& star : catalogue.stars) {
    if (channel >= star.fits.size() || star.saturated || star.blended || star.artefact) continue;
    const StarFit& fit = star.fits[channel];
    if (fit.psf.fwhm_px <= 0 || fit.psf.ellipticity() > 0.75F) continue;
    Sample sample;
    sample.terms =
        polynomial_terms(unit(star.x, catalogue.frame.width), unit(star.y, catalogue.frame.height),
                         term_count(highest_field_order));
    sample.value = {std::log(fit.psf.fwhm_px), fit.psf.e1, fit.psf.e2,
                    std::log(fit.psf.beta),    fit.psf.dx, fit.psf.dy};
    const double width = fit.fwhm_error / fit.psf.fwhm_px, shape = fit.ellipticity_error;
    sample.width_error = width;
    const double place = std::hypot(fit.x_error, fit.y_error);
    const double by_width = 1 / (width * width + fwhm_floor * fwhm_floor);
    const double by_shape = 1 / (shape * shape + shape_floor * shape_floor);
    // Where beta was held, or hit its bound, the star says nothing of it. Of 1 / beta the error is
    // nearly the same whatever its value; that of beta is small where beta came out small, so that
    // what a nebula makes of the wings would decide. chi2 tells of the nebula.
    constexpr double beta_floor = 0.1, untold = 1e-6;
    const double wings = fit.beta_error / (fit.psf.beta * fit.psf.beta) * usual_beta *
                         std::sqrt(std::max(fit.chi2, 1.0F));
    const double by_wings = wings > 0 ? 1 / (wings * wings + beta_floor * beta_floor) : untold;
    const double by_place = 1 / (place * place + shape_floor * shape_floor);
    sample.weight = {by_width, by_shape, by_shape, by_wings, by_place, by_place};
    samples.push_back(sample);
  }
  return samples;
}

/// Distance of two fits in width and shape, in units of how much these differ between stars of one
/// frame: 15 % in width, .12 in ellipticity.
double distance(const Sample& a, const Sample& b) {
  constexpr double width_scale = 0.15, shape_scale = 0.12;
  return std::hypot((a.value[log_fwhm] - b.value[log_fwhm]) / width_scale,
                    (a.value[e1] - b.value[e1]) / shape_scale,
                    (a.value[e2] - b.value[e2]) / shape_scale);
}

/// The samples whose width is known to 10 %, or the best dozen when fewer are.
std::vector<const Sample*> best_measured(const std::vector<Sample>& samples) {
  constexpr std::size_t dozen = 12;
  constexpr double well = 0.1;
  std::vector<const Sample*> best;
  for (const Sample& sample : samples) best.push_back(&sample);
  std::ranges::stable_sort(best, {}, &Sample::width_error);
  const auto poor =
      std::ranges::find_if(best, [](const Sample* s) { return s->width_error > well; });
  best.resize(
      std::min(best.size(), std::max(dozen, static_cast<std::size_t>(poor - best.begin()))));
  return best;
}

/// Point sources share one profile, knots of nebulae and galaxies have every width and shape: the
/// fit around which the best measured crowd most closely, and nothing when none do. Of several such
/// crowds the narrowest that is a third as dense as the densest, since galaxies may be the many.
const Sample* stellar_locus(const std::vector<Sample>& samples, std::size_t fewest) {
  constexpr std::size_t fewest_alike = 3;
  const auto judged = best_measured(samples);
  if (judged.size() < fewest_alike) return nullptr;
  const auto density = [&](const Sample& centre) {
    double sum = 0;
    for (const Sample* other : judged) {
      const double d = distance(centre, *other);
      sum += std::max(0.0, 1 - d * d);
    }
    return sum;
  };
  std::vector<double> densities;
  for (const Sample* centre : judged) densities.push_back(density(*centre));
  const double densest = *std::ranges::max_element(densities);
  double narrowest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < judged.size(); ++i) {
    if (3 * densities[i] >= densest) narrowest = std::min(narrowest, judged[i]->value[log_fwhm]);
  }
  constexpr double crowd_width = 0.3;  // of the logarithm of the width
  std::size_t chosen = judged.size();
  for (std::size_t i = 0; i < judged.size(); ++i) {
    if (judged[i]->value[log_fwhm] > narrowest + crowd_width) continue;
    if (chosen == judged.size() || densities[i] > densities[chosen]) chosen = i;
  }
  // Chance: what the density just around leaves to be expected inside. The shell of twice the
  // radius has seven times the volume.
  std::size_t inside = 0, shell = 0;
  for (const Sample* other : judged) {
    const double d = distance(*judged[chosen], *other);
    inside += d < 1 ? 1 : 0;
    shell += d >= 1 && d < 2 ? 1 : 0;
  }
  const bool crowded = inside >= fewest && 7 * inside >= 4 * (shell + 7);
  const bool most = inside + shell >= fewest && 5 * (inside + shell) >= 3 * judged.size();
  const bool all = inside == judged.size();
  return crowded || most || all ? judged[chosen] : nullptr;
}

/// Throws out what lies over 3.5 robust sigmas off the surface in width or shape; of a handful of
/// stars, whose scatter tells little, only what is wildly off. Begins with what lies near `locus`.
void reject_outliers(std::vector<Sample>& samples, const Sample& locus, int terms) {
  constexpr double furthest = 2.5;  // in units of distance(), from the surface
  const Sample centre = locus;
  for (Sample& sample : samples) sample.kept = distance(sample, centre) < furthest;
  for (int round = 0; round < 6; ++round) {
    const bool few = std::ranges::count(samples, true, &Sample::kept) < 12;
    const float reach_sigma = few ? 6.0F : 3.5F, least_sigma = few ? 1.0F : 0.5F;
    std::vector<Sample> expected = samples;
    std::vector<bool> keep(samples.size(), true);
    for (const Quantity quantity : shape_quantities) {
      const Surface surface =
          fit_surface(samples, quantity, terms, [&](std::size_t i) { return samples[i].kept; });
      std::vector<float> pulls, kept_pulls;
      for (std::size_t i = 0; i < samples.size(); ++i) {
        const double off = residual(samples[i], quantity, surface);
        expected[i].value[quantity] -= off;
        pulls.push_back(static_cast<float>(off * std::sqrt(samples[i].weight[quantity])));
        if (samples[i].kept) kept_pulls.push_back(pulls.back());
      }
      const float reach = reach_sigma * std::max(robust_spread(kept_pulls).sigma, least_sigma);
      for (std::size_t i = 0; i < samples.size(); ++i)
        keep[i] = keep[i] && std::abs(pulls[i]) <= reach;
    }
    bool changed = false;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const bool kept = keep[i] && distance(samples[i], expected[i]) < furthest;
      changed = changed || samples[i].kept != kept;
      samples[i].kept = kept;
    }
    if (!changed) return;
  }
}

std::size_t kept_count(const std::vector<Sample>& samples) {
  return static_cast<std::size_t>(std::ranges::count(samples, true, &Sample::kept));
}

/// Mean squared pull of stars left out of the fit, every fifth at a time (Stone 1974, J. R. Stat.
/// Soc. B 36, 111). A few wild stars count no more than 4 sigmas.
double left_out_error(const std::vector<Sample>& samples, int terms) {
  constexpr std::size_t folds = 5;
  double sum = 0, count = 0;
  for (const Quantity quantity : shape_quantities) {
    for (std::size_t fold = 0; fold < folds; ++fold) {
      const Surface surface = fit_surface(samples, quantity, terms, [&](std::size_t i) {
        return samples[i].kept && i % folds != fold;
      });
      for (std::size_t i = fold; i < samples.size(); i += folds) {
        if (!samples[i].kept) continue;
        const double off = residual(samples[i], quantity, surface);
        sum += std::min(off * off * samples[i].weight[quantity], 16.0);
        count += 1;
      }
    }
  }
  return count > 0 ? sum / count : std::numeric_limits<double>::infinity();
}

int choose_order(const std::vector<std::vector<Sample>>& channels, int max_order) {
  int best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (int order = 0; order <= max_order; ++order) {
    const int terms = term_count(order);
    double error = 0;
    for (const auto& channel : channels) {
      if (static_cast<int>(kept_count(channel)) < 3 * terms) return best;
      error += left_out_error(channel, terms);
    }
    // One per cent: a higher order must pay for what it risks in starless corners.
    if (error < 0.99 * least) {
      best = order;
      least = error;
    }
  }
  return best;
}

PsfField::ChannelModel fit_channel_model(const std::vector<Sample>& samples, int order) {
  const auto kept = [&](std::size_t i) { return samples[i].kept; };
  const auto fit = [&](Quantity quantity, int quantity_order) {
    return fit_surface(samples, quantity, term_count(quantity_order), kept).coefficients;
  };
  // Wings and colour shift vary slowly, and single stars tell little of the wings.
  const int low = kept_count(samples) >= 40 ? std::min(order, 1) : 0;
  return {fit(log_fwhm, order), fit(e1, order),    fit(e2, order),
          fit(log_beta, low),   fit(shift_x, low), fit(shift_y, low)};
}

std::vector<double> mean_of(const std::vector<PsfField::ChannelModel>& models,
                            std::vector<double> PsfField::ChannelModel::*member) {
  std::vector<double> mean(models.front().*member);
  for (std::size_t i = 0; i < mean.size(); ++i) {
    double sum = 0;
    for (const auto& model : models) sum += (model.*member)[i];
    mean[i] = sum / static_cast<double>(models.size());
  }
  return mean;
}

/// Covariance of the polynomial of log FWHM, from the scatter of the stars about it.
std::vector<double> fwhm_covariance(const std::vector<Sample>& samples, int order) {
  const Surface surface = fit_surface(samples, log_fwhm, term_count(order),
                                      [&](std::size_t i) { return samples[i].kept; });
  double squares = 0, count = 0;
  for (const Sample& sample : samples) {
    if (!sample.kept) continue;
    squares += sample.weight[log_fwhm] * std::pow(residual(sample, log_fwhm, surface), 2);
    count += 1;
  }
  const double freedom = std::max(count - term_count(order), 1.0);
  const Eigen::MatrixXd covariance = surface.covariance * (squares / freedom);
  return {covariance.data(), covariance.data() + covariance.size()};
}

}  // namespace

std::optional<PsfField> fit_psf_field(const StarCatalogue& catalogue, const FieldOptions& options) {
  const std::size_t channel_count = catalogue.sky.size();
  std::vector<std::vector<Sample>> usable;  // of the channels with stars enough
  std::vector<std::size_t> usable_index;
  const auto least = static_cast<std::size_t>(std::max(options.min_stars, 1));
  for (std::size_t c = 0; c < channel_count; ++c) {
    auto samples = samples_of(catalogue, c);
    const Sample* locus = stellar_locus(samples, least);
    if (locus == nullptr) continue;
    const int first_order = samples.size() >= 30   ? std::min(2, options.max_order)
                            : samples.size() >= 12 ? std::min(1, options.max_order)
                                                   : 0;
    reject_outliers(samples, *locus, term_count(first_order));
    // Three or four that agree are no chance either, if there is no other.
    const std::size_t kept = kept_count(samples);
    if (kept < least && (kept < 3 || kept < samples.size())) continue;
    usable.push_back(std::move(samples));
    usable_index.push_back(c);
  }
  if (usable.empty()) return std::nullopt;
  const int order = choose_order(usable, std::clamp(options.max_order, 0, highest_field_order));
  std::vector<PsfField::ChannelModel> fitted;
  std::size_t stars = 0;
  for (const auto& samples : usable) {
    fitted.push_back(fit_channel_model(samples, order));
    stars = std::max(stars, kept_count(samples));
  }
  // A channel without stars of its own takes the mean of the others.
  using Model = PsfField::ChannelModel;
  PsfField::ChannelModel mean;
  for (const auto member : {&Model::log_fwhm, &Model::e1, &Model::e2})
    mean.*member = mean_of(fitted, member);
  mean.log_beta = fitted.front().log_beta;
  mean.dx = mean.dy = {0};
  std::vector<Model> models(channel_count, mean);
  for (std::size_t i = 0; i < usable_index.size(); ++i)
    models[usable_index[i]] = std::move(fitted[i]);
  const auto covariance = fwhm_covariance(usable.front(), order);
  // Half a per cent: what simulated fields of many stars are still off by.
  constexpr float systematic = 0.005F;
  return PsfField(catalogue.frame, order, static_cast<int>(stars), std::move(models), systematic,
                  covariance);
}

std::optional<PsfField> fit_psf_field(ConstView frame, const StarCatalogue& catalogue,
                                      int threads) {
  auto field = fit_psf_field(catalogue);
  if (!field) return field;
  const auto effective = measure_effective_psf(frame, catalogue, *field, threads);
  field->set_effective(effective);
  field->set_wings(measure_psf_wings(frame, catalogue, effective.get(), threads));
  return field;
}

}  // namespace limpid
