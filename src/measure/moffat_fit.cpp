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

struct Pixel {
  double x, y, value, weight;
  double trust =
      1;  ///< variance by noise alone, times the weight: below 1 where misfit counts, too
};

struct Normal {
  Matrix hessian = Matrix::Zero();
  Vector gradient = Vector::Zero();
  double chi2 = 0;
};

MoffatProfile profile_of(const Vector& p) {
  return {std::exp(p[unknown_log_fwhm]), p[unknown_e1], p[unknown_e2], 1 / p[unknown_inverse_beta]};
}

class Search {
 public:
  Search(ConstView cutout, const MoffatStart& start, const MoffatOptions& options);
  [[nodiscard]] int pixel_count() const { return static_cast<int>(pixels_.size()); }
  [[nodiscard]] int free_count() const { return free_count_; }
  [[nodiscard]] Vector first_guess() const;
  /// Moves `p` to the minimum; false when there is none within reach.
  bool minimise(Vector& p) const;
  /// Weights by sky and shot noise of the model `p`.
  void weigh(const Vector& p);
  /// Leaves out what no star shows: cosmic rays, a trail, a neighbour's core. False: nothing did.
  bool drop_outliers(const Vector& p);
  [[nodiscard]] MoffatFit describe(const Vector& p) const;

 private:
  struct Slope;
  [[nodiscard]] Slope slope_at(const MoffatProfile& profile, const Vector& p,
                               const Pixel& pixel) const;
  [[nodiscard]] Normal normal_equations(const Vector& p) const;
  [[nodiscard]] Matrix covariance(const Vector& p, const Normal& normal) const;
  void solve_linear(Vector& p) const;
  void confine(Vector& p) const;
  void hold_fixed(const Vector& p, Normal& normal) const;

  [[nodiscard]] double sky_at(const Vector& p, const Pixel& pixel) const {
    return p[unknown_sky] + p[unknown_slope_x] * (pixel.x - start_.x) +
           p[unknown_slope_y] * (pixel.y - start_.y);
  }

  MoffatOptions options_;
  MoffatStart start_;
  Size size_;
  std::vector<Pixel> pixels_;
  int free_count_;
};

Search::Search(ConstView cutout, const MoffatStart& start, const MoffatOptions& options)
    : options_(options),
      start_(start),
      size_(cutout.size()),
      free_count_(unknown_count - (options.fixed_beta ? 1 : 0) - (options.fixed_sky ? 1 : 0) -
                  (options.sloping_sky ? 0 : 2)) {
  const double variance = options.sky_sigma * options.sky_sigma;
  pixels_.reserve(size_.pixels());
  for (int y = 0; y < size_.height; ++y) {
    for (int x = 0; x < size_.width; ++x) {
      const double value = cutout(0, y, x);
      const bool masked = !options.mask.empty() && options.mask(0, y, x) != 0;
      if (masked || !std::isfinite(value) || value >= options.saturation) continue;
      pixels_.push_back({double(x), double(y), value, variance > 0 ? 1 / variance : 1});
    }
  }
}

void Search::weigh(const Vector& p) {
  const MoffatProfile profile = profile_of(p);
  const double misfit = options_.model_error * p[unknown_flux] * profile.pixel(0, 0);
  const double variance = options_.sky_sigma * options_.sky_sigma + misfit * misfit;
  for (Pixel& pixel : pixels_) {
    const double light = std::max(
        0.0, p[unknown_flux] * profile.pixel(pixel.x - p[unknown_x], pixel.y - p[unknown_y]));
    const double shot = options_.gain > 0 ? light / options_.gain : 0;
    pixel.weight = 1 / (variance + shot);
    pixel.trust = 1 - misfit * misfit * pixel.weight;
  }
}

bool Search::drop_outliers(const Vector& p) {
  const MoffatProfile profile = profile_of(p);
  std::vector<double> residuals, lights;
  std::vector<float> pulls;
  for (const Pixel& pixel : pixels_) {
    lights.push_back(p[unknown_flux] *
                     profile.pixel(pixel.x - p[unknown_x], pixel.y - p[unknown_y]));
    residuals.push_back(pixel.value - sky_at(p, pixel) - lights.back());
    pulls.push_back(static_cast<float>(residuals.back() * std::sqrt(pixel.weight)));
  }
  const double scale = std::max(1.0, static_cast<double>(robust_spread(pulls).sigma));
  // Stars that are no Moffat miss it by some sigmas, too, but by a small share of their own light.
  constexpr double share = 0.25;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < pixels_.size(); ++i) {
    const bool off = std::abs(static_cast<double>(pulls[i])) > options_.reject_sigma * scale &&
                     std::abs(residuals[i]) > share * lights[i];
    if (!off) pixels_[kept++] = pixels_[i];
  }
  // many that are off are no accident
  if (kept == pixels_.size() || 10 * kept < 9 * pixels_.size()) return false;
  pixels_.resize(kept);
  return pixel_count() > free_count_;
}

/// Flux and sky by linear least squares, the shape held.
void Search::solve_linear(Vector& p) const {
  const MoffatProfile profile = profile_of(p);
  double w = 0, wm = 0, wmm = 0, wv = 0, wmv = 0;
  for (const Pixel& pixel : pixels_) {
    const double m = profile.pixel(pixel.x - p[unknown_x], pixel.y - p[unknown_y]);
    w += pixel.weight;
    wm += pixel.weight * m;
    wmm += pixel.weight * m * m;
    wv += pixel.weight * pixel.value;
    wmv += pixel.weight * m * pixel.value;
  }
  if (options_.fixed_sky) {
    p[unknown_sky] = *options_.fixed_sky;
    p[unknown_flux] = (wmv - wm * p[unknown_sky]) / wmm;
    return;
  }
  const double determinant = w * wmm - wm * wm;
  p[unknown_flux] = (w * wmv - wm * wv) / determinant;
  p[unknown_sky] = (wmm * wv - wm * wmv) / determinant;
}

Vector Search::first_guess() const {
  Vector p;
  p << start_.x, start_.y, 0, std::log(std::max(start_.fwhm_px, 0.3)), start_.e1, start_.e2,
      1 / options_.fixed_beta.value_or(start_.beta), 0, 0, 0;
  confine(p);
  solve_linear(p);
  return p;
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

/// How the model of a pixel changes with the unknowns, and what the data leave over.
struct Search::Slope {
  Vector by;
  double residual;
};
Search::Slope Search::slope_at(const MoffatProfile& profile, const Vector& p,
                               const Pixel& pixel) const {
  const double flux = p[unknown_flux], beta = 1 / p[unknown_inverse_beta];
  const auto terms = profile.pixel_terms(pixel.x - p[unknown_x], pixel.y - p[unknown_y]);
  Vector by;
  by << flux * terms.by_x, flux * terms.by_y, terms.value, flux * terms.by_log_fwhm,
      flux * terms.by_e1, flux * terms.by_e2, -flux * terms.by_beta * beta * beta, 1,
      pixel.x - start_.x, pixel.y - start_.y;
  return {by, pixel.value - flux * terms.value - sky_at(p, pixel)};
}

Normal Search::normal_equations(const Vector& p) const {
  Normal normal;
  const MoffatProfile profile = profile_of(p);
  for (const Pixel& pixel : pixels_) {
    const Slope slope = slope_at(profile, p, pixel);
    // All of it, though half would do: this way the compiler vectorises.
    normal.hessian.noalias() += (pixel.weight * slope.by) * slope.by.transpose();
    normal.gradient += pixel.weight * slope.residual * slope.by;
    normal.chi2 += pixel.weight * slope.residual * slope.residual;
  }
  hold_fixed(p, normal);
  return normal;
}

/// Covariance of the unknowns by the noise alone. Where weights also allow for misfit, they are not
/// the inverse of the noise: H^-1 (sum w^2 v s s') H^-1, with slopes s, weights w, variances v.
Matrix Search::covariance(const Vector& p, const Normal& normal) const {
  const MoffatProfile profile = profile_of(p);
  Normal noise;
  for (const Pixel& pixel : pixels_) {
    const Vector by = slope_at(profile, p, pixel).by;
    noise.hessian.noalias() += (pixel.trust * pixel.weight * by) * by.transpose();
  }
  noise.gradient = normal.gradient;
  hold_fixed(p, noise);
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

bool Search::minimise(Vector& p) const {
  double damping = 1e-3;
  Normal normal = normal_equations(p);
  for (int iteration = 0; iteration < options_.max_iterations; ++iteration) {
    Matrix damped = normal.hessian;
    damped.diagonal() *= 1 + damping;
    const Vector step = damped.ldlt().solve(normal.gradient);
    if (!step.allFinite()) return false;
    Vector next = p + step;
    confine(next);
    // Most steps succeed, and then the next one needs the whole equations anyway.
    Normal ahead = normal_equations(next);
    const double gain = normal.chi2 - ahead.chi2;
    const double moved = std::max(std::abs(next[unknown_x] - p[unknown_x]),
                                  std::abs(next[unknown_y] - p[unknown_y]));
    // Against known noise a thousandth of chi2's own unit is nothing: 3 % of an error bar. At the
    // minimum rounding alone decides the sign of the gain.
    const double negligible = std::max(1e-6 * normal.chi2, options_.sky_sigma > 0 ? 1e-3 : 0.0);
    const bool settled = std::abs(gain) <= negligible && moved < 1e-3 && damping <= 1e-2;
    if (gain >= 0) {
      p = next;
      normal = ahead;
      damping = std::max(damping / 10, 1e-9);
    } else {
      damping *= 8;
    }
    // Reproduced exactly, or nowhere to go but by rounding errors.
    if (settled || !(normal.chi2 > 0) || damping > 1e6) return true;
  }
  return true;  // the best point found is still a description; its errors tell how good
}

MoffatFit Search::describe(const Vector& p) const {
  const Normal normal = normal_equations(p);
  const double freedom = std::max(pixel_count() - free_count_, 1);
  const double reduced = normal.chi2 / freedom;
  const double scale = options_.sky_sigma > 0 ? 1.0 : reduced;
  Vector error = (covariance(p, normal).diagonal() * scale).cwiseMax(0.0).cwiseSqrt();
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
  const MoffatProfile profile = profile_of(p);
  double light = 0, residual = 0;
  for (const Pixel& pixel : pixels_) {
    const double model =
        p[unknown_flux] * profile.pixel(pixel.x - p[unknown_x], pixel.y - p[unknown_y]);
    const double left = pixel.value - sky_at(p, pixel) - model;
    light += model * model;
    residual += left * left - (options_.sky_sigma > 0 ? pixel.trust / pixel.weight : 0.0);
  }
  fit.misfit = light > 0 ? std::sqrt(std::max(residual, 0.0) / light) : 0;
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
  Vector p = search.first_guess();
  if (!p.allFinite() || !search.minimise(p)) return std::nullopt;
  const bool star_adds_noise = options.gain > 0 || options.model_error > 0;
  if (options.sky_sigma > 0 && star_adds_noise && p[unknown_flux] > 0) {
    // Weights from the first solution, not from the data: those would pull the fit to low pixels.
    search.weigh(p);
    if (!search.minimise(p)) return std::nullopt;
  }
  constexpr int rounds = 3;
  for (int round = 0; round < rounds && options.reject_sigma > 0; ++round) {
    if (!search.drop_outliers(p)) break;
    if (!search.minimise(p)) return std::nullopt;
  }
  const bool inside = p[unknown_x] > -0.5 && p[unknown_x] < cutout.width() - 0.5 &&
                      p[unknown_y] > -0.5 && p[unknown_y] < cutout.height() - 0.5;
  if (!p.allFinite() || !inside || p[unknown_flux] <= 0) return std::nullopt;
  return search.describe(p);
}

}  // namespace limpid
