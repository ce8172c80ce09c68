// The fit of a Moffat profile to one star.
#include <algorithm>
#include <cmath>
#include <vector>

#include <Eigen/Dense>

#include "core/statistics.h"
#include "measure/moffat.h"

namespace limpid {
namespace {

constexpr int unknown_count = 10;
enum Unknown {
  unknown_x,
  unknown_y,
  unknown_flux,
  unknown_log_fwhm,
  unknown_e1,
  unknown_e2,
  unknown_inverse_beta,
  unknown_sky,
  unknown_slope_x,
  unknown_slope_y
};
using Vector = Eigen::Matrix<double, unknown_count, 1>;
using Matrix = Eigen::Matrix<double, unknown_count, unknown_count>;

using Slopes = Eigen::Matrix<double, Eigen::Dynamic, unknown_count>;

struct Pixels {
  Eigen::ArrayXd x, y, value, weight;
  /// Variance by noise alone, times the weight: below 1 where misfit counts, too.
  Eigen::ArrayXd trust;

  void keep(const std::vector<Eigen::Index>& indices) {
    for (Eigen::ArrayXd* all : {&x, &y, &value, &weight, &trust})
      *all = Eigen::ArrayXd((*all)(indices));
  }
};

struct Normal {
  Matrix hessian = Matrix::Zero();
  Vector gradient = Vector::Zero();
};

/// sum w s s' of the first slopes. Column by column: a general product of matrices, which is made
/// for larger ones, takes several times as long.
Matrix weighted_products(const Slopes& slopes, const Eigen::ArrayXd& weight, int used) {
  Matrix sums = Matrix::Zero();
  Eigen::VectorXd weighted;
  for (int i = 0; i < used; ++i) {
    weighted = slopes.col(i).array() * weight;
    sums.col(i).segment(i, used - i).noalias() =
        slopes.middleCols(i, used - i).transpose() * weighted;
  }
  sums.triangularView<Eigen::StrictlyUpper>() = sums.transpose();
  return sums;
}

MoffatProfile profile_of(const Vector& p) {
  return {std::exp(p[unknown_log_fwhm]), p[unknown_e1], p[unknown_e2], 1 / p[unknown_inverse_beta]};
}

/// Where a search has come to, with the profile there, which takes longest to draw.
struct Place {
  Vector p;
  MoffatTerms terms;
  Eigen::ArrayXd residual;
  double chi2 = 0;
  [[nodiscard]] auto profile() const { return terms.col(moffat_value).array(); }
};

class Search {
 public:
  Search(ConstView cutout, const MoffatStart& start, const MoffatOptions& options);
  [[nodiscard]] int pixel_count() const { return static_cast<int>(pixels_.x.size()); }
  [[nodiscard]] int free_count() const { return free_count_; }
  [[nodiscard]] Place first_guess() const;
  /// Moves to the minimum; false when there is none within reach.
  bool minimise(Place& place) const;
  /// Weights by sky and shot noise of the model.
  void weigh(const Place& place);
  /// Leaves out what no star shows: cosmic rays, a trail, a neighbour's core. False: nothing did.
  bool drop_outliers(Place& place);
  [[nodiscard]] MoffatFit describe(const Place& place) const;

 private:
  [[nodiscard]] Place place_at(const Vector& p) const {
    return {p, profile_of(p).terms(pixels_.x - p[unknown_x], pixels_.y - p[unknown_y]), {}, 0};
  }
  void compare(Place& place) const;
  [[nodiscard]] Slopes slopes_at(const Place& place) const;
  [[nodiscard]] int used_slopes() const {
    return options_.sloping_sky ? unknown_count : int{unknown_slope_x};
  }
  [[nodiscard]] Normal normal_equations(const Place& place) const;
  [[nodiscard]] Matrix covariance(const Place& place, const Normal& normal) const;
  void solve_linear(Place& place) const;
  void confine(Vector& p) const;
  void hold_fixed(const Vector& p, Normal& normal) const;

  [[nodiscard]] Eigen::ArrayXd sky_at(const Vector& p) const {
    return p[unknown_sky] + p[unknown_slope_x] * (pixels_.x - start_.x) +
           p[unknown_slope_y] * (pixels_.y - start_.y);
  }

  MoffatOptions options_;
  MoffatStart start_;
  Size size_;
  Pixels pixels_;
  int free_count_;
};

Search::Search(ConstView cutout, const MoffatStart& start, const MoffatOptions& options)
    : options_(options),
      start_(start),
      size_(cutout.size()),
      free_count_(unknown_count - (options.fixed_beta ? 1 : 0) - (options.fixed_sky ? 1 : 0) -
                  (options.sloping_sky ? 0 : 2)) {
  std::vector<double> xs, ys, values;
  for (std::vector<double>* all : {&xs, &ys, &values}) all->reserve(size_.pixels());
  for (int y = 0; y < size_.height; ++y) {
    for (int x = 0; x < size_.width; ++x) {
      const double value = cutout(0, y, x);
      const bool masked = !options.mask.empty() && options.mask(0, y, x) != 0;
      if (masked || !std::isfinite(value) || value >= options.saturation) continue;
      xs.push_back(x);
      ys.push_back(y);
      values.push_back(value);
    }
  }
  const auto count = static_cast<Eigen::Index>(values.size());
  const auto array = [&](const std::vector<double>& all) {
    return Eigen::ArrayXd(Eigen::Map<const Eigen::ArrayXd>(all.data(), count));
  };
  const double variance = options.sky_sigma * options.sky_sigma;
  pixels_ = {array(xs), array(ys), array(values),
             Eigen::ArrayXd::Constant(count, variance > 0 ? 1 / variance : 1),
             Eigen::ArrayXd::Ones(count)};
}

void Search::weigh(const Place& place) {
  const Vector& p = place.p;
  const double misfit = options_.model_error * p[unknown_flux] * profile_of(p).pixel(0, 0);
  const double variance = options_.sky_sigma * options_.sky_sigma + misfit * misfit;
  const Eigen::ArrayXd light = (p[unknown_flux] * place.profile()).max(0.0);
  const double photons = options_.gain > 0 ? 1 / options_.gain : 0;
  pixels_.weight = 1 / (variance + photons * light);
  pixels_.trust = 1 - misfit * misfit * pixels_.weight;
}

bool Search::drop_outliers(Place& place) {
  const Vector& p = place.p;
  const Eigen::ArrayXd lights = p[unknown_flux] * place.profile();
  const Eigen::ArrayXd residuals = pixels_.value - sky_at(p) - lights;
  const Eigen::ArrayXf pulls = (residuals * pixels_.weight.sqrt()).cast<float>();
  const double scale = std::max(
      1.0, static_cast<double>(robust_spread({pulls.data(), pulls.data() + pulls.size()}).sigma));
  // Stars that are no Moffat miss it by some sigmas, too, but by a small share of their own light.
  constexpr double share = 0.25;
  std::vector<Eigen::Index> kept;
  for (Eigen::Index i = 0; i < pulls.size(); ++i) {
    const bool off = std::abs(static_cast<double>(pulls[i])) > options_.reject_sigma * scale &&
                     std::abs(residuals[i]) > share * lights[i];
    if (!off) kept.push_back(i);
  }
  const auto count = static_cast<Eigen::Index>(kept.size());
  // many that are off are no accident
  if (count == pulls.size() || 10 * count < 9 * pulls.size()) return false;
  pixels_.keep(kept);
  place.terms = MoffatTerms(place.terms(kept, Eigen::all));
  compare(place);
  return pixel_count() > free_count_;
}

/// Flux and sky by linear least squares, the shape held.
void Search::solve_linear(Place& place) const {
  Vector& p = place.p;
  const Eigen::ArrayXd light = place.profile(), weighted = pixels_.weight * light;
  const double w = pixels_.weight.sum(), wm = weighted.sum(), wmm = (weighted * light).sum(),
               wv = (pixels_.weight * pixels_.value).sum(), wmv = (weighted * pixels_.value).sum();
  if (options_.fixed_sky) {
    p[unknown_sky] = *options_.fixed_sky;
    p[unknown_flux] = (wmv - wm * p[unknown_sky]) / wmm;
    return;
  }
  const double determinant = w * wmm - wm * wm;
  p[unknown_flux] = (w * wmv - wm * wv) / determinant;
  p[unknown_sky] = (wmm * wv - wm * wmv) / determinant;
}

Place Search::first_guess() const {
  Vector p;
  p << start_.x, start_.y, 0, std::log(std::max(start_.fwhm_px, 0.3)), start_.e1, start_.e2,
      1 / options_.fixed_beta.value_or(start_.beta), 0, 0, 0;
  confine(p);
  Place place = place_at(p);
  solve_linear(place);
  return place;
}

/// Keeps the search where the model has a meaning.
void Search::confine(Vector& p) const {
  const double largest = 2.0 * std::max(size_.width, size_.height);
  p[unknown_log_fwhm] = std::clamp(p[unknown_log_fwhm], std::log(0.2), std::log(largest));
  p[unknown_inverse_beta] =
      std::clamp(p[unknown_inverse_beta], 1 / max_moffat_beta, 1 / min_moffat_beta);
  const double ellipticity = std::hypot(p[unknown_e1], p[unknown_e2]);
  constexpr double most_elongated = 0.9;
  if (ellipticity > most_elongated) {
    p[unknown_e1] *= most_elongated / ellipticity;
    p[unknown_e2] *= most_elongated / ellipticity;
  }
}

/// How the model of each pixel changes with the unknowns.
Slopes Search::slopes_at(const Place& place) const {
  const Vector& p = place.p;
  const MoffatTerms& terms = place.terms;
  const double flux = p[unknown_flux], beta = 1 / p[unknown_inverse_beta];
  Slopes slopes(terms.rows(), static_cast<int>(unknown_count));
  slopes.col(unknown_x) = flux * terms.col(moffat_by_x);
  slopes.col(unknown_y) = flux * terms.col(moffat_by_y);
  slopes.col(unknown_flux) = terms.col(moffat_value);
  slopes.col(unknown_log_fwhm) = flux * terms.col(moffat_by_log_fwhm);
  slopes.col(unknown_e1) = flux * terms.col(moffat_by_e1);
  slopes.col(unknown_e2) = flux * terms.col(moffat_by_e2);
  slopes.col(unknown_inverse_beta) = -flux * beta * beta * terms.col(moffat_by_beta);
  slopes.col(unknown_sky).setOnes();
  slopes.col(unknown_slope_x) = pixels_.x - start_.x;
  slopes.col(unknown_slope_y) = pixels_.y - start_.y;
  return slopes;
}

/// With the pixels, as they are weighted now.
void Search::compare(Place& place) const {
  place.residual = pixels_.value - place.p[unknown_flux] * place.profile() - sky_at(place.p);
  place.chi2 = (pixels_.weight * place.residual.square()).sum();
}

Normal Search::normal_equations(const Place& place) const {
  const Slopes slopes = slopes_at(place);
  Normal normal;
  normal.hessian = weighted_products(slopes, pixels_.weight, used_slopes());
  normal.gradient.noalias() = slopes.transpose() * (pixels_.weight * place.residual).matrix();
  hold_fixed(place.p, normal);
  return normal;
}

/// Covariance of the unknowns by the noise alone. Where weights also allow for misfit, they are not
/// the inverse of the noise: H^-1 (sum w^2 v s s') H^-1, with slopes s, weights w, variances v.
Matrix Search::covariance(const Place& place, const Normal& normal) const {
  Normal noise;
  noise.hessian =
      weighted_products(slopes_at(place), pixels_.trust * pixels_.weight, used_slopes());
  noise.gradient = normal.gradient;
  hold_fixed(place.p, noise);
  const Matrix inverse = normal.hessian.ldlt().solve(Matrix::Identity());
  return inverse * noise.hessian * inverse;
}

/// Takes held parameters, and beta where it pushes against its bound, out of the equations.
void Search::hold_fixed(const Vector& p, Normal& normal) const {
  const auto remove = [&normal](int index) {
    normal.hessian.row(index).setZero();
    normal.hessian.col(index).setZero();
    normal.hessian(index, index) = 1;
    normal.gradient[index] = 0;
  };
  const double inverse_beta = p[unknown_inverse_beta], push = normal.gradient[unknown_inverse_beta];
  const bool at_bound = (inverse_beta <= 1 / max_moffat_beta && push < 0) ||
                        (inverse_beta >= 1 / min_moffat_beta && push > 0);
  if (options_.fixed_beta || at_bound) remove(unknown_inverse_beta);
  if (options_.fixed_sky) remove(unknown_sky);
  if (!options_.sloping_sky) {
    remove(unknown_slope_x);
    remove(unknown_slope_y);
  }
}

bool Search::minimise(Place& place) const {
  double damping = 1e-3;
  compare(place);
  Normal normal = normal_equations(place);
  for (int iteration = 0; iteration < options_.max_iterations; ++iteration) {
    Matrix damped = normal.hessian;
    damped.diagonal() *= 1 + damping;
    const Vector step = damped.ldlt().solve(normal.gradient);
    if (!step.allFinite()) return false;
    Vector next = place.p + step;
    confine(next);
    Place next_place = place_at(next);
    compare(next_place);
    const double gain = place.chi2 - next_place.chi2;
    const double moved = std::max(std::abs(next[unknown_x] - place.p[unknown_x]),
                                  std::abs(next[unknown_y] - place.p[unknown_y]));
    // Against known noise a thousandth of chi2's own unit is nothing: 3 % of an error bar. At the
    // minimum rounding alone decides the sign of the gain.
    const double negligible = std::max(1e-6 * place.chi2, options_.sky_sigma > 0 ? 1e-3 : 0.0);
    const bool settled = std::abs(gain) <= negligible && moved < 1e-3 && damping <= 1e-2;
    if (gain >= 0) {
      place = std::move(next_place);
      damping = std::max(damping / 10, 1e-9);
    } else {
      damping *= 8;
    }
    // Reproduced exactly, or nowhere to go but by rounding errors.
    if (settled || !(place.chi2 > 0) || damping > 1e6) return true;
    if (gain >= 0) normal = normal_equations(place);
  }
  return true;  // the best point found is still a description; its errors tell how good
}

MoffatFit Search::describe(const Place& place) const {
  const Vector& p = place.p;
  const Normal normal = normal_equations(place);
  const double freedom = std::max(pixel_count() - free_count_, 1);
  const double reduced = place.chi2 / freedom;
  const double scale = options_.sky_sigma > 0 ? 1.0 : reduced;
  Vector error = (covariance(place, normal).diagonal() * scale).cwiseMax(0.0).cwiseSqrt();
  if (options_.fixed_beta) error[unknown_inverse_beta] = 0;
  if (options_.fixed_sky) error[unknown_sky] = 0;

  const double fwhm_px = std::exp(p[unknown_log_fwhm]), beta = 1 / p[unknown_inverse_beta];
  MoffatFit fit;
  fit.value = {p[unknown_x],  p[unknown_y], p[unknown_flux], fwhm_px, p[unknown_e1],
               p[unknown_e2], beta,         p[unknown_sky]};
  fit.error = {error[unknown_x],
               error[unknown_y],
               error[unknown_flux],
               fwhm_px * error[unknown_log_fwhm],
               error[unknown_e1],
               error[unknown_e2],
               beta * beta * error[unknown_inverse_beta],
               error[unknown_sky]};
  fit.chi2 = options_.sky_sigma > 0 ? reduced : 1.0;
  fit.pixels_used = pixel_count();
  const Eigen::ArrayXd light = p[unknown_flux] * place.profile();
  Eigen::ArrayXd unexplained = (pixels_.value - sky_at(p) - light).square();
  if (options_.sky_sigma > 0) unexplained -= pixels_.trust / pixels_.weight;
  const double squares = light.square().sum();
  fit.misfit = squares > 0 ? std::sqrt(std::max(unexplained.sum(), 0.0) / squares) : 0;
  return fit;
}

}  // namespace

Psf MoffatFit::psf() const {
  Psf psf;
  psf.fwhm_px = static_cast<float>(value.fwhm_px);
  psf.beta = static_cast<float>(value.beta);
  psf.e1 = static_cast<float>(value.e1);
  psf.e2 = static_cast<float>(value.e2);
  return psf;
}

std::optional<MoffatFit> fit_moffat(ConstView cutout, const MoffatStart& start,
                                    const MoffatOptions& options) {
  Search search(cutout, start, options);
  if (search.pixel_count() <= search.free_count()) return std::nullopt;
  Place place = search.first_guess();
  const Vector& p = place.p;
  if (!p.allFinite() || !search.minimise(place)) return std::nullopt;
  const bool star_adds_noise = options.gain > 0 || options.model_error > 0;
  if (options.sky_sigma > 0 && star_adds_noise && p[unknown_flux] > 0) {
    // Weights from the first solution, not from the data: those would pull the fit to low pixels.
    search.weigh(place);
    if (!search.minimise(place)) return std::nullopt;
  }
  constexpr int rounds = 3;
  for (int round = 0; round < rounds && options.reject_sigma > 0; ++round) {
    if (!search.drop_outliers(place)) break;
    if (!search.minimise(place)) return std::nullopt;
  }
  const bool inside = p[unknown_x] > -0.5 && p[unknown_x] < cutout.width() - 0.5 &&
                      p[unknown_y] > -0.5 && p[unknown_y] < cutout.height() - 0.5;
  if (!p.allFinite() || !inside) return std::nullopt;
  // less than a float pixel shows above the sky is rounding
  const double least_peak = 1e-7 * std::abs(p[unknown_sky]);
  if (!(p[unknown_flux] * profile_of(p).pixel(0, 0) > least_peak)) return std::nullopt;
  return search.describe(place);
}

}  // namespace limpid
