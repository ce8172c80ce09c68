#include "measure/moffat.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace limpid {
namespace {

// Gauss-Legendre nodes and weights on [-1/2, 1/2] (Abramowitz & Stegun 1964, table 25.4).
struct Rule {
  int points;
  std::array<double, 8> node, weight;
};
constexpr Rule three_points{
    3, {-0.3872983346207417, 0, 0.3872983346207417}, {5.0 / 18, 8.0 / 18, 5.0 / 18}};
constexpr Rule five_points{
    5,
    {-0.4530899229693320, -0.2692346550528416, 0, 0.2692346550528416, 0.4530899229693320},
    {0.1184634425280945, 0.2393143352496832, 0.2844444444444444, 0.2393143352496832,
     0.1184634425280945}};
constexpr Rule eight_points{
    8,
    {-0.4801449282487681, -0.3983332387068134, -0.2627662049581645, -0.0917173212478249,
     0.0917173212478249, 0.2627662049581645, 0.3983332387068134, 0.4801449282487681},
    {0.0506142681451881, 0.1111905172266872, 0.1568533229389436, 0.1813418916891810,
     0.1813418916891810, 0.1568533229389436, 0.1111905172266872, 0.0506142681451881}};

/// The rule that keeps a pixel's error under about 1e-4 of its value, when the profile changes over
/// a squared length of `smoothness` px^2; null: the centre with its Laplacian is enough.
const Rule* rule_for(double smoothness) {
  if (smoothness >= 4.0) return nullptr;
  if (smoothness >= 1.0) return &three_points;
  return smoothness >= 0.25 ? &five_points : &eight_points;
}

}  // namespace

float Psf::ellipticity() const { return std::hypot(e1, e2); }

float Psf::eccentricity() const {
  const float ratio = 1.0F - std::min(ellipticity(), 1.0F);
  return std::sqrt(1.0F - ratio * ratio);
}

float Psf::angle_rad() const { return 0.5F * std::atan2(e2, e1); }

Image Psf::kernel(int side_px, std::span<const float> residual) const {
  Image kernel(1, {side_px, side_px});
  const MoffatProfile profile(fwhm_px, e1, e2, beta);
  const double centre_x = side_px / 2 + dx, centre_y = side_px / 2 + dy;
  double sum = 0;
  for (int y = 0; y < side_px; ++y) {
    const auto row = kernel.view().row(0, y);
    for (int x = 0; x < side_px; ++x) {
      const double value = profile.pixel(x - centre_x, y - centre_y);
      row[static_cast<std::size_t>(x)] = static_cast<float>(value);
      sum += value;
    }
  }
  for (float& value : kernel.pixels()) value = static_cast<float>(value / sum);
  if (residual.empty()) return kernel;
  sum = 0;
  for (std::size_t i = 0; i < residual.size(); ++i) {
    sum += static_cast<double>(kernel.pixels()[i] += residual[i]);
  }
  for (float& value : kernel.pixels()) value = static_cast<float>(value / sum);
  return kernel;
}

// With axis ratio r = 1 - e, major axis at angle t, and a^2 the product of the semi-scales:
//   I = (beta - 1)/(pi a^2) [1 + kappa Q]^-beta,   kappa = 1/a^2 = 4 (2^(1/beta) - 1)/FWHM^2,
//   Q = r u^2 + v^2/r  (u along, v across the major axis)
//     = C (dx^2 + dy^2) - H [(dx^2 - dy^2) e1 + 2 dx dy e2],
//   C = (r + 1/r)/2 = 1 + e^2/(2(1-e)),   H = (1/r - r)/(2e) = (2-e)/(2(1-e)).
MoffatProfile::MoffatProfile(double fwhm_px, double e1, double e2, double beta)
    : beta_(beta),
      e1_(e1),
      e2_(e2),
      ellipticity_(std::hypot(e1, e2)) {
  const double ratio = 1 - ellipticity_;
  round_ = 1 + ellipticity_ * ellipticity_ / (2 * ratio);
  stretch_ = (2 - ellipticity_) / (2 * ratio);
  const double root = std::exp2(1 / beta), spread = root - 1;
  inverse_area_ = 4 * spread / (fwhm_px * fwhm_px);
  peak_ = (beta - 1) * inverse_area_ / std::numbers::pi;
  smoothness_ = ratio / inverse_area_ / (2 * beta);
  kappa_by_beta_ = -root * std::numbers::ln2 / (beta * beta * spread);
}

double MoffatProfile::form(double dx, double dy) const {
  return inverse_area_ * (round_ * (dx * dx + dy * dy) -
                          stretch_ * ((dx * dx - dy * dy) * e1_ + 2 * dx * dy * e2_));
}

/// Laplacian of the profile over its value; `base` is 1 + kappa Q.
double MoffatProfile::laplacian(double dx, double dy, double base) const {
  const double slope_x = 2 * inverse_area_ * (round_ * dx - stretch_ * (dx * e1_ + dy * e2_));
  const double slope_y = 2 * inverse_area_ * (round_ * dy - stretch_ * (dx * e2_ - dy * e1_));
  return beta_ / base *
         ((beta_ + 1) / base * (slope_x * slope_x + slope_y * slope_y) -
          4 * round_ * inverse_area_);
}

double MoffatProfile::pixel(double dx, double dy) const {
  const double base = 1 + form(dx, dy);
  const Rule* rule = rule_for(smoothness_ * base);
  // Integral over a unit square: f + (1/24) Laplacian f + O(4th derivatives / 1000).
  if (rule == nullptr) {
    return peak_ * std::pow(base, -beta_) * (1 + laplacian(dx, dy, base) / 24);
  }
  double sum = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(rule->points); ++i) {
    for (std::size_t j = 0; j < static_cast<std::size_t>(rule->points); ++j) {
      sum += rule->weight[i] * rule->weight[j] *
             std::pow(1 + form(dx + rule->node[j], dy + rule->node[i]), -beta_);
    }
  }
  return peak_ * sum;
}

void MoffatProfile::add_point(Terms& sums, double dx, double dy, double weight) const {
  const double kappa_q = form(dx, dy), base = 1 + kappa_q, log_base = std::log(base);
  const double value = weight * peak_ * std::exp(-beta_ * log_base);
  const double by_form = -beta_ * value / base;  // by kappa Q
  const double difference = dx * dx - dy * dy, product = 2 * dx * dy;
  sums.value += value;
  sums.by_x -= by_form * 2 * inverse_area_ * (round_ * dx - stretch_ * (dx * e1_ + dy * e2_));
  sums.by_y -= by_form * 2 * inverse_area_ * (round_ * dy - stretch_ * (dx * e2_ - dy * e1_));
  sums.by_log_fwhm += -2 * (value + by_form * kappa_q);
  sums.by_beta +=
      value * (1 / (beta_ - 1) + kappa_by_beta_ - log_base) + by_form * kappa_q * kappa_by_beta_;
  const double ratio = 1 - ellipticity_;
  // dC/de_i = e_i (2-e)/(2 r^2);  dH/de = 1/(2 r^2), times de/de_i = e_i/e.
  const double along = ((dx * dx + dy * dy) * (2 - ellipticity_) -
                        (difference * e1_ + product * e2_) / std::max(ellipticity_, 1e-12)) /
                       (2 * ratio * ratio);
  sums.by_e1 += by_form * inverse_area_ * (along * e1_ - stretch_ * difference);
  sums.by_e2 += by_form * inverse_area_ * (along * e2_ - stretch_ * product);
}

MoffatProfile::Terms MoffatProfile::pixel_terms(double dx, double dy) const {
  Terms sums;
  const double base = 1 + form(dx, dy);
  const Rule* rule = rule_for(smoothness_ * base);
  if (rule == nullptr) {
    add_point(sums, dx, dy, 1);
    // The derivatives of the small correction itself are left out: they only steer the search.
    sums.value *= 1 + laplacian(dx, dy, base) / 24;
    return sums;
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(rule->points); ++i) {
    for (std::size_t j = 0; j < static_cast<std::size_t>(rule->points); ++j) {
      add_point(sums, dx + rule->node[j], dy + rule->node[i], rule->weight[i] * rule->weight[j]);
    }
  }
  return sums;
}

}  // namespace limpid
