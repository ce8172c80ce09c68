#include "measure/star_stack.h"

#include <algorithm>
#include <cmath>

#include <Eigen/Dense>

#include "core/length.h"
#include "core/statistics.h"

namespace limpid {
namespace {

/// Prior of a residual: this share of the profile there, plus this share of its peak.
constexpr double prior_of_profile = 0.5, prior_of_peak = 0.005;
/// What stars differ by that is not the PSF's: shares of the profile and of its peak.
constexpr double own_of_profile = 0.03, own_of_peak = 0.001;
constexpr double core_fwhm = 2;  // pixels this near tell place and flux

Eigen::ArrayXd picked(const Eigen::ArrayXd& values, const std::vector<Eigen::Index>& pixels) {
  Eigen::ArrayXd some(static_cast<Eigen::Index>(pixels.size()));
  for (Eigen::Index i = 0; i < some.size(); ++i)
    some[i] = values[pixels[static_cast<std::size_t>(i)]];
  return some;
}

}  // namespace

double interpolate(const std::vector<float>& plane, int side, double column, double row) {
  const int x = static_cast<int>(column), y = static_cast<int>(row);
  const double fx = column - x, fy = row - y;
  const float* at = &plane[cell_of(x, y, side)];
  return (1 - fy) * ((1 - fx) * static_cast<double>(at[0]) + fx * static_cast<double>(at[1])) +
         fy * ((1 - fx) * static_cast<double>(at[side]) + fx * static_cast<double>(at[side + 1]));
}

std::vector<float> plane_at(const Planes& planes, const Eigen::VectorXd& terms) {
  std::vector<float> here(planes.empty() ? 0 : planes.front().size());
  for (std::size_t a = 0; a < planes.size(); ++a) {
    const auto factor = static_cast<float>(terms[static_cast<Eigen::Index>(a)]);
    for (std::size_t i = 0; i < here.size(); ++i) here[i] += factor * planes[a][i];
  }
  return here;
}

StackedStar::StackedStar(ConstView frame, int channel, const Star& star,
                         const std::vector<const Star*>& others, const Psf& psf, double sigma,
                         int reach_px)
    : reach_(reach_px),
      side_(grid_side(reach_px)),
      sigma_(sigma),
      sky_sigma_(sigma),
      core_px_(
          std::min(core_fwhm * static_cast<double>(psf.fwhm_px), static_cast<double>(reach_px))),
      terms_(polynomial_terms(unit(static_cast<double>(star.x), frame.width()),
                              unit(static_cast<double>(star.y), frame.height()),
                              term_count(highest_order))),
      profile_(psf.fwhm_px, psf.e1, psf.e2, psf.beta) {
  const StarFit& fit = star.fits[static_cast<std::size_t>(channel)];
  at_ = {fit.x, fit.y, fit.flux, fit.sky};
  take_pixels(frame.channel(channel), star, others);
}

StarSamples StackedStar::samples(const Planes& planes) {
  constexpr double farthest_px = 1, brightest = 2;  // that a star may move, and gain or lose
  const Place before = at_;
  const auto plane = plane_at(planes, terms_);
  for (int round = 0; round < 2; ++round) {
    find(plane);
    level(plane);
  }
  if (std::hypot(at_.x - before.x, at_.y - before.y) < farthest_px &&
      at_.flux > before.flux / brightest && at_.flux < brightest * before.flux)
    return left();
  at_ = before;
  return {};
}

void StackedStar::take_pixels(ConstView frame, const Star& star,
                              const std::vector<const Star*>& others) {
  const int x0 = static_cast<int>(std::lround(at_.x)), y0 = static_cast<int>(std::lround(at_.y));
  std::vector<double> columns, rows, values;
  for (int row = std::max(0, y0 - reach_); row <= std::min(frame.height() - 1, y0 + reach_);
       ++row) {
    for (int column = std::max(0, x0 - reach_); column <= std::min(frame.width() - 1, x0 + reach_);
         ++column) {
      const auto value = static_cast<double>(frame(0, row, column));
      if (length_of(column - at_.x, row - at_.y) > reach_ || !std::isfinite(value) || value == 0)
        continue;
      columns.push_back(column);
      rows.push_back(row);
      values.push_back(value);
    }
  }
  const auto count = static_cast<Eigen::Index>(values.size());
  const Eigen::Map<const Eigen::ArrayXd> x(columns.data(), count), y(rows.data(), count),
      all(values.data(), count);
  const Eigen::ArrayXd most =
      (0.15 * static_cast<double>(star.flux) * profile_.pixels(x - at_.x, y - at_.y))
          .max(0.5 * sigma_);
  Eigen::Array<bool, Eigen::Dynamic, 1> theirs =
      Eigen::Array<bool, Eigen::Dynamic, 1>::Constant(count, false);
  for (const Star* other : others) {
    const double near =
        length_of(static_cast<double>(other->x) - at_.x, static_cast<double>(other->y) - at_.y) -
        reach_;
    if (static_cast<double>(other->flux) * profile_.most_beyond(near) < 0.5 * sigma_) continue;
    theirs = theirs ||
             static_cast<double>(other->flux) * profile_.pixels(x - static_cast<double>(other->x),
                                                                y - static_cast<double>(other->y)) >
                 most;
  }
  Pixels own;
  for (Eigen::Index i = 0; i < count; ++i) {
    if (!theirs[i]) own.push_back(i);
  }
  x_ = picked(x, own);
  y_ = picked(y, own);
  values_ = picked(all, own);
}

StackedStar::Pixels StackedStar::within(double from, double to) const {
  Pixels list(static_cast<std::size_t>(x_.size()));
  std::size_t count = 0;
  for (Eigen::Index i = 0; i < x_.size(); ++i) {
    const double away = length_of(x_[i] - at_.x, y_[i] - at_.y);
    list[count] = i;
    count += away > from && away <= to ? 1 : 0;
  }
  list.resize(count);
  return list;
}

double StackedStar::on_grid(double px) const { return (side_ - 1) / 2.0 + oversampling * px; }

Eigen::ArrayXd StackedStar::beyond_moffat(const std::vector<float>& plane, const Eigen::ArrayXd& dx,
                                          const Eigen::ArrayXd& dy) const {
  Eigen::ArrayXd light = Eigen::ArrayXd::Zero(dx.size());
  if (plane.empty()) return light;
  for (Eigen::Index i = 0; i < dx.size(); ++i)
    light[i] = interpolate(plane, side_, on_grid(dx[i]), on_grid(dy[i]));
  return light;
}

/// Of pixels in units of the star's flux: every star has faults of its own (colour, focus, a faint
/// neighbour), 3 % of the profile.
Eigen::ArrayXd StackedStar::variance(const Eigen::ArrayXd& light) const {
  return std::pow(sigma_ / at_.flux, 2) + (own_of_profile * light).square() +
         std::pow(own_of_peak * profile_.pixel(0, 0), 2);
}

/// Flux, and the place once planes say what it belongs to: a Moffat alone would be drawn to a tail.
void StackedStar::find(const std::vector<float>& plane) {
  constexpr std::size_t fewest = 12;
  const auto core = within(-1, core_px_);
  if (core.size() < fewest) return;
  const Eigen::ArrayXd dx = picked(x_, core) - at_.x, dy = picked(y_, core) - at_.y;
  const MoffatTerms terms = profile_.terms(dx, dy);
  const Eigen::ArrayXd moffat = terms.col(moffat_value).array(), weight = variance(moffat).rsqrt();
  Eigen::Matrix<double, Eigen::Dynamic, 3> design(dx.size(), 3);
  design.col(0) = weight * (moffat + beyond_moffat(plane, dx, dy));
  design.col(1) = weight * at_.flux * terms.col(moffat_by_x).array();
  design.col(2) = weight * at_.flux * terms.col(moffat_by_y).array();
  const Eigen::VectorXd right = (weight * (picked(values_, core) - at_.sky)).matrix();
  if (plane.empty()) {
    at_.flux = design.col(0).dot(right) / design.col(0).squaredNorm();
    return;
  }
  const Eigen::Vector3d solution =
      (design.transpose() * design).ldlt().solve(design.transpose() * right);
  at_.flux = solution[0];
  at_.x += std::clamp(solution[1], -0.5, 0.5);
  at_.y += std::clamp(solution[2], -0.5, 0.5);
}

/// The level about a star, of what is left of its pixels, where they end. A fitted sky has
/// swallowed the wings that a Moffat does not have: stacked over it they came out dark, and an
/// aperture of 4 FWHM held 1.02 of a star.
void StackedStar::level(const std::vector<float>& plane) {
  constexpr std::size_t fewest = 40;
  const auto outermost = within(outermost_share * reach_, reach_);
  if (outermost.size() < fewest) return;
  const Eigen::ArrayXd dx = picked(x_, outermost) - at_.x, dy = picked(y_, outermost) - at_.y;
  const Eigen::ArrayXf left = (picked(values_, outermost) -
                               at_.flux * (profile_.pixels(dx, dy) + beyond_moffat(plane, dx, dy)))
                                  .cast<float>();
  at_.sky =
      static_cast<double>(median(std::span(left.data(), static_cast<std::size_t>(left.size()))));
  const Eigen::ArrayXf away = (left - static_cast<float>(at_.sky)).abs();
  sigma_ = std::max(sky_sigma_, static_cast<double>(sigma_per_mad) *
                                    static_cast<double>(median(std::span(
                                        away.data(), static_cast<std::size_t>(away.size())))));
}

StarSamples StackedStar::left() const {
  const Eigen::ArrayXd dx = x_ - at_.x, dy = y_ - at_.y;
  const Eigen::ArrayXd light = profile_.pixels(dx, dy);
  const Eigen::ArrayXd value = (values_ - at_.sky) / at_.flux - light, spread = variance(light),
                       prior = prior_of_profile * light + prior_of_peak * profile_.pixel(0, 0);
  StarSamples out{.terms = terms_, .samples = {}};
  for (Eigen::Index i = 0; i < dx.size(); ++i) {
    // a star that was moved may have pixels beyond the grid
    if (length_of(dx[i], dy[i]) > reach_) continue;
    out.samples.push_back({.column = static_cast<float>(on_grid(dx[i])),
                           .row = static_cast<float>(on_grid(dy[i])),
                           .value = static_cast<float>(value[i]),
                           .variance = static_cast<float>(spread[i]),
                           .prior = static_cast<float>(prior[i])});
  }
  return out;
}

}  // namespace limpid
