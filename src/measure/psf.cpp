// How the point spread function changes over a frame: robust low-order polynomials.
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

double evaluate(const std::vector<double>& coefficients, double u, double v) {
  if (coefficients.empty()) return 0;
  const int count = static_cast<int>(coefficients.size());
  const Eigen::Map<const Eigen::VectorXd> c(coefficients.data(), count);
  return c.dot(polynomial_terms(u, v, count));
}

}  // namespace

PsfField::PsfField(Size frame, int order, int star_count, std::vector<ChannelModel> channels,
                   float relative_error, std::vector<double> covariance)
    : frame_(frame),
      order_(order),
      star_count_(star_count),
      relative_error_(relative_error),
      channels_(std::move(channels)),
      covariance_(std::move(covariance)) {}

PsfField PsfField::constant(const Psf& psf, Size frame, int channels) {
  const ChannelModel model{{std::log(static_cast<double>(psf.fwhm_px))}, {psf.e1}, {psf.e2},
                           {std::log(static_cast<double>(psf.beta))},    {psf.dx}, {psf.dy}};
  return {frame, 0, 0, std::vector<ChannelModel>(static_cast<std::size_t>(channels), model), 0.0F};
}

Psf PsfField::at(float x, float y, int channel) const {
  const double u = unit(origin_x_ + scale_ * x, frame_.width);
  const double v = unit(origin_y_ + scale_ * y, frame_.height);
  const ChannelModel& model = channels_[static_cast<std::size_t>(channel)];
  Psf psf;
  psf.fwhm_px = static_cast<float>(std::exp(evaluate(model.log_fwhm, u, v)) / scale_);
  psf.beta = static_cast<float>(std::exp(evaluate(model.log_beta, u, v)));
  psf.e1 = static_cast<float>(evaluate(model.e1, u, v));
  psf.e2 = static_cast<float>(evaluate(model.e2, u, v));
  constexpr float most_elongated = 0.8F;
  if (psf.ellipticity() > most_elongated) {
    const float shrink = most_elongated / psf.ellipticity();
    psf.e1 *= shrink;
    psf.e2 *= shrink;
  }
  psf.dx = static_cast<float>(evaluate(model.dx, u, v) / scale_);
  psf.dy = static_cast<float>(evaluate(model.dy, u, v) / scale_);
  return psf;
}

Psf PsfField::mean_at(float x, float y) const {
  Psf mean;
  double log_fwhm = 0, log_beta = 0;
  const auto count = static_cast<float>(channels());
  for (int channel = 0; channel < channels(); ++channel) {
    const Psf psf = at(x, y, channel);
    log_fwhm += std::log(psf.fwhm_px);
    log_beta += std::log(psf.beta);
    mean.e1 += psf.e1 / count;
    mean.e2 += psf.e2 / count;
  }
  mean.fwhm_px = static_cast<float>(std::exp(log_fwhm / count));
  mean.beta = static_cast<float>(std::exp(log_beta / count));
  return mean;
}

float PsfField::fwhm_uncertainty(float x, float y) const {
  if (covariance_.empty()) return relative_error_;
  const int count =
      static_cast<int>(std::lround(std::sqrt(static_cast<double>(covariance_.size()))));
  const Eigen::VectorXd terms =
      polynomial_terms(unit(origin_x_ + scale_ * x, frame_.width),
                       unit(origin_y_ + scale_ * y, frame_.height), count);
  const Eigen::Map<const Eigen::MatrixXd> covariance(covariance_.data(), count, count);
  return static_cast<float>(std::hypot(relative_error_, std::sqrt(terms.dot(covariance * terms))));
}

PsfField PsfField::binned(int factor) const {
  // The Moffat is meant before pixel integration, and the sum of pixel integrals is the integral
  // over the large pixel: only the unit of length changes.
  PsfField field = *this;
  field.origin_x_ = origin_x_ + scale_ * 0.5F * static_cast<float>(factor - 1);
  field.origin_y_ = origin_y_ + scale_ * 0.5F * static_cast<float>(factor - 1);
  field.scale_ = scale_ * static_cast<float>(factor);
  return field;
}

PsfField PsfField::shifted(float x, float y) const {
  PsfField field = *this;
  field.origin_x_ = origin_x_ + scale_ * x;
  field.origin_y_ = origin_y_ + scale_ * y;
  return field;
}

std::vector<float> PsfField::residual(float x, float y, int channel, int side_px,
                                      bool centred) const {
  if (!effective_ || scale_ != 1) return {};
  const Psf psf = at(x, y, channel);
  return effective_->residual(origin_x_ + x, origin_y_ + y, channel, side_px, centred ? 0 : psf.dx,
                              centred ? 0 : psf.dy);
}

Image PsfField::kernel(float x, float y, int channel, int side_px) const {
  return at(x, y, channel).kernel(side_px, residual(x, y, channel, side_px));
}

std::pair<float, float> PsfField::coma(float x, float y) const {
  constexpr int side = 64;
  double sum_x = 0, sum_y = 0;
  for (int channel = 0; channel < channels(); ++channel) {
    const auto beyond = residual(x, y, channel, side, true);
    const double reach =
        2 * static_cast<double>(at(x, y, channel).fwhm_px);  // further out it is noise
    for (std::size_t i = 0; i < beyond.size(); ++i) {
      const int dx = static_cast<int>(i) % side - side / 2,
                dy = static_cast<int>(i) / side - side / 2;
      if (std::hypot(dx, dy) > reach) continue;
      sum_x += static_cast<double>(beyond[i]) * dx / channels();
      sum_y += static_cast<double>(beyond[i]) * dy / channels();
    }
  }
  return {static_cast<float>(sum_x), static_cast<float>(sum_y)};
}

// ---- the fit

namespace {

enum Quantity { log_fwhm, e1, e2, log_beta, shift_x, shift_y, quantity_count };

/// One star in one channel.
struct Sample {
  double u = 0, v = 0;
  std::array<double, quantity_count> value{}, weight{};
  bool kept = true;
};

struct Surface {
  std::vector<double> coefficients;
  Eigen::MatrixXd covariance;  ///< for unit variance of a sample of unit weight
};

/// Weighted least squares; `in_use` chooses the samples.
template <typename InUse>
Surface fit_surface(const std::vector<Sample>& samples, Quantity quantity, int terms,
                    InUse in_use) {
  Eigen::MatrixXd normal = Eigen::MatrixXd::Zero(terms, terms);
  Eigen::VectorXd right = Eigen::VectorXd::Zero(terms);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (!in_use(i)) continue;
    const Eigen::VectorXd term = polynomial_terms(samples[i].u, samples[i].v, terms);
    normal += samples[i].weight[quantity] * term * term.transpose();
    right += samples[i].weight[quantity] * samples[i].value[quantity] * term;
  }
  // A touch of ridge on the higher terms decides what stars all on one line leave open.
  for (int i = 1; i < terms; ++i) normal(i, i) += 1e-4 * normal(0, 0);
  const Eigen::LDLT<Eigen::MatrixXd> solver(normal);
  const Eigen::VectorXd solution = solver.solve(right);
  return {{solution.begin(), solution.end()},
          solver.solve(Eigen::MatrixXd::Identity(terms, terms))};
}

double residual(const Sample& sample, Quantity quantity, const Surface& surface) {
  return sample.value[quantity] - evaluate(surface.coefficients, sample.u, sample.v);
}

constexpr std::array shape_quantities{log_fwhm, e1, e2};

/// What a single fit may be off by beside its error bar: neighbours not seen, a profile that is no
/// Moffat. Keeps the few brightest stars from deciding alone.
constexpr double fwhm_floor = 0.02, shape_floor = 0.01;

std::vector<Sample> samples_of(const StarCatalogue& catalogue, std::size_t channel) {
  std::vector<Sample> samples;
  for (const Star& star : catalogue.stars) {
    if (channel >= star.fits.size() || star.saturated || star.blended || star.artefact) continue;
    const StarFit& fit = star.fits[channel];
    if (fit.psf.fwhm_px <= 0 || fit.psf.ellipticity() > 0.75F) continue;
    Sample sample;
    sample.u = unit(star.x, catalogue.frame.width);
    sample.v = unit(star.y, catalogue.frame.height);
    sample.value = {std::log(fit.psf.fwhm_px), fit.psf.e1, fit.psf.e2,
                    std::log(fit.psf.beta),    fit.psf.dx, fit.psf.dy};
    const double width = fit.fwhm_error / fit.psf.fwhm_px, shape = fit.ellipticity_error;
    const double place = std::hypot(fit.x_error, fit.y_error);
    const double by_width = 1 / (width * width + fwhm_floor * fwhm_floor);
    const double by_shape = 1 / (shape * shape + shape_floor * shape_floor);
    const double by_place = 1 / (place * place + shape_floor * shape_floor);
    sample.weight = {by_width, by_shape, by_shape, by_width, by_place, by_place};
    samples.push_back(sample);
  }
  return samples;
}

/// Nothing on a frame is narrower than its stars, and all stars are about equally wide; knots of
/// nebulae and galaxies are wider and of every width. Keeps what lies around the narrowest crowd of
/// log widths that is at least a third as dense as the densest.
void keep_stellar_locus(std::vector<Sample>& samples) {
  constexpr std::size_t fewest = 12;                          // fewer show no crowd
  constexpr double window = 0.15, below = 0.35, above = 0.5;  // of the logarithm of the width
  if (samples.size() < fewest) return;
  std::vector<double> widths;
  for (const Sample& sample : samples) widths.push_back(sample.value[0]);
  std::ranges::sort(widths);
  const auto crowd = [&](double centre) {
    return std::ranges::upper_bound(widths, centre + window) -
           std::ranges::lower_bound(widths, centre - window);
  };
  std::ptrdiff_t densest = 0;
  for (const double width : widths) densest = std::max(densest, crowd(width));
  const auto first =
      std::ranges::find_if(widths, [&](double width) { return 3 * crowd(width) >= densest; });
  // from there up to the top of that crowd
  double locus = *first;
  for (auto width = first; width != widths.end() && *width < *first + 2 * window; ++width) {
    if (crowd(*width) > crowd(locus)) locus = *width;
  }
  std::erase_if(samples, [&](const Sample& sample) {
    return sample.value[0] < locus - below || sample.value[0] > locus + above;
  });
}

/// Throws out what lies over 3.5 robust sigmas off the surface in width or shape; of a handful of
/// stars, whose scatter tells little, only what is wildly off.
void reject_outliers(std::vector<Sample>& samples, int terms) {
  const bool few = samples.size() < 12;
  const float reach_sigma = few ? 6.0F : 3.5F, least_sigma = few ? 1.0F : 0.5F;
  for (int round = 0; round < 6; ++round) {
    bool changed = false;
    std::vector<bool> keep(samples.size(), true);
    for (const Quantity quantity : shape_quantities) {
      const Surface surface =
          fit_surface(samples, quantity, terms, [&](std::size_t i) { return samples[i].kept; });
      std::vector<float> pulls;
      for (const Sample& sample : samples) {
        const auto pull = static_cast<float>(residual(sample, quantity, surface) *
                                             std::sqrt(sample.weight[quantity]));
        pulls.push_back(pull);
      }
      const Spread spread = robust_spread(pulls);
      const float reach = reach_sigma * std::max(spread.sigma, least_sigma);
      for (std::size_t i = 0; i < samples.size(); ++i) {
        if (std::abs(pulls[i] - (round == 0 ? spread.median : 0)) > reach) keep[i] = false;
      }
    }
    for (std::size_t i = 0; i < samples.size(); ++i) {
      changed = changed || samples[i].kept != keep[i];
      samples[i].kept = keep[i];
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
    keep_stellar_locus(samples);
    const int first_order = samples.size() >= 30   ? std::min(2, options.max_order)
                            : samples.size() >= 12 ? std::min(1, options.max_order)
                                                   : 0;
    reject_outliers(samples, term_count(first_order));
    if (kept_count(samples) < least) continue;
    usable.push_back(std::move(samples));
    usable_index.push_back(c);
  }
  if (usable.empty()) return std::nullopt;
  const int order = choose_order(usable, std::clamp(options.max_order, 0, 3));
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
  if (field) field->set_effective(measure_effective_psf(frame, catalogue, threads));
  return field;
}

}  // namespace limpid
