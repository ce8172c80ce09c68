#include "measure/moffat.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

namespace limpid {
namespace {

// Gauss-Legendre nodes and weights on [-1/2, 1/2] (Abramowitz & Stegun 1964, table 25.4), for
// profiles that change over a squared length of at least `least_smoothness` px^2: they keep a
// pixel's error under about 1e-4 of its value.
struct Rule {
  double least_smoothness;
  std::size_t points;
  std::array<double, 8> node, weight;
};
constexpr std::array<Rule, 4> rules{{
    {4.0, 1, {}, {}},  // the centre with its Laplacian is enough
    {1.0, 3, {-0.3872983346207417, 0, 0.3872983346207417}, {5.0 / 18, 8.0 / 18, 5.0 / 18}},
    {0.25,
     5,
     {-0.4530899229693320, -0.2692346550528416, 0, 0.2692346550528416, 0.4530899229693320},
     {0.1184634425280945, 0.2393143352496832, 0.2844444444444444, 0.2393143352496832,
      0.1184634425280945}},
    {0.0,
     8,
     {-0.4801449282487681, -0.3983332387068134, -0.2627662049581645, -0.0917173212478249,
      0.0917173212478249, 0.2627662049581645, 0.3983332387068134, 0.4801449282487681},
     {0.0506142681451881, 0.1111905172266872, 0.1568533229389436, 0.1813418916891810,
      0.1813418916891810, 0.1568533229389436, 0.1111905172266872, 0.0506142681451881}},
}};
constexpr int centre_rule = 0;

}  // namespace

float Psf::ellipticity() const { return std::hypot(e1, e2); }

float Psf::eccentricity() const {
  const float ratio = 1.0F - std::min(ellipticity(), 1.0F);
  return std::sqrt(1.0F - ratio * ratio);
}

float Psf::angle_rad() const { return 0.5F * std::atan2(e2, e1); }

Image Psf::kernel(int side_px, std::span<const float> residual) const {
  Image kernel = Image::unset(1, {side_px, side_px});
  const Eigen::Index side = side_px, count = side * side;
  Eigen::ArrayXd x(count), y(count);
  const double left = -(side_px / 2 + static_cast<double>(dx)),
               top = -(side_px / 2 + static_cast<double>(dy));
  for (Eigen::Index row = 0; row < side; ++row) {
    for (Eigen::Index i = 0; i < side; ++i) x[row * side + i] = left + static_cast<double>(i);
    y.segment(row * side, side).setConstant(top + static_cast<double>(row));
  }
  Eigen::Map<Eigen::ArrayXf> values(kernel.pixels().data(), count);
  const Eigen::ArrayXd light = MoffatProfile(fwhm_px, e1, e2, beta).pixels(x, y);
  values = light.cast<float>();  // before the division, as with a residual
  values = (values.cast<double>() / light.sum()).cast<float>();
  return with_residual(std::move(kernel), residual);
}

Image with_residual(Image kernel, std::span<const float> residual) {
  if (residual.empty()) return kernel;
  const auto count = static_cast<Eigen::Index>(residual.size());
  Eigen::Map<Eigen::ArrayXf> values(kernel.pixels().data(), count);
  values += Eigen::Map<const Eigen::ArrayXf>(residual.data(), count);
  const double sum = values.cast<double>().sum();
  values = (values.cast<double>() / sum).cast<float>();
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

template <typename Number>
Number MoffatProfile::form(Number dx, Number dy) const {
  return inverse_area_ * (round_ * (dx * dx + dy * dy) -
                          stretch_ * ((dx * dx - dy * dy) * e1_ + 2.0 * dx * dy * e2_));
}

/// Laplacian of the profile over its value; `base` is 1 + kappa Q.
Lanes MoffatProfile::laplacian(Lanes dx, Lanes dy, Lanes base) const {
  const Lanes slope_x = 2 * inverse_area_ * (round_ * dx - stretch_ * (dx * e1_ + dy * e2_));
  const Lanes slope_y = 2 * inverse_area_ * (round_ * dy - stretch_ * (dx * e2_ - dy * e1_));
  const Lanes by_base = beta_ / base;
  return by_base * ((1 + 1 / beta_) * by_base * (slope_x * slope_x + slope_y * slope_y) -
                    4 * round_ * inverse_area_);
}

int MoffatProfile::rule_at(double dx, double dy) const {
  const double smoothness = smoothness_ * (1 + form(dx, dy));
  int rule = centre_rule;
  while (smoothness < rules[static_cast<std::size_t>(rule)].least_smoothness) ++rule;
  return rule;
}

Lanes MoffatProfile::integral(int rule, Lanes dx, Lanes dy) const {
  // Integral over a unit square: f + (1/24) Laplacian f + O(4th derivatives / 1000).
  if (rule == centre_rule) {
    const Lanes base = 1.0 + form(dx, dy);
    return peak_ * exp_of(-beta_ * log_of(base)) * (1.0 + laplacian(dx, dy, base) / 24.0);
  }
  const Rule& points = rules[static_cast<std::size_t>(rule)];
  Lanes sum{};
  for (std::size_t i = 0; i < points.points; ++i) {
    for (std::size_t j = 0; j < points.points; ++j) {
      sum += points.weight[i] * points.weight[j] *
             exp_of(-beta_ * log_of(1.0 + form(dx + points.node[j], dy + points.node[i])));
    }
  }
  return peak_ * sum;
}

void MoffatProfile::add_point(Sums& sums, Lanes dx, Lanes dy, double weight) const {
  const Lanes kappa_q = form(dx, dy), base = 1.0 + kappa_q, log_base = log_of(base);
  const Lanes value = weight * peak_ * exp_of(-beta_ * log_base);
  const Lanes by_form = -beta_ * value / base;  // by kappa Q
  const Lanes difference = dx * dx - dy * dy, product = 2.0 * dx * dy;
  sums[moffat_value] += value;
  sums[moffat_by_x] -=
      by_form * 2.0 * inverse_area_ * (round_ * dx - stretch_ * (dx * e1_ + dy * e2_));
  sums[moffat_by_y] -=
      by_form * 2.0 * inverse_area_ * (round_ * dy - stretch_ * (dx * e2_ - dy * e1_));
  sums[moffat_by_log_fwhm] += -2.0 * (value + by_form * kappa_q);
  sums[moffat_by_beta] +=
      value * (1 / (beta_ - 1) + kappa_by_beta_ - log_base) + by_form * kappa_q * kappa_by_beta_;
  // dC/de_i = e_i (2-e)/(2 r^2);  dH/de = 1/(2 r^2), times de/de_i = e_i/e.
  const double ratio = 1 - ellipticity_, scale = 1 / (2 * ratio * ratio),
               by_ellipticity = scale / std::max(ellipticity_, 1e-12);
  const Lanes along = (dx * dx + dy * dy) * ((2 - ellipticity_) * scale) -
                      (difference * e1_ + product * e2_) * by_ellipticity;
  sums[moffat_by_e1] += by_form * inverse_area_ * (along * e1_ - stretch_ * difference);
  sums[moffat_by_e2] += by_form * inverse_area_ * (along * e2_ - stretch_ * product);
}

MoffatProfile::Sums MoffatProfile::integrals(int rule, Lanes dx, Lanes dy) const {
  Sums sums{};
  if (rule == centre_rule) {
    add_point(sums, dx, dy, 1);
    // The derivatives of the small correction itself are left out: they only steer the search.
    sums[moffat_value] *= 1.0 + laplacian(dx, dy, 1.0 + form(dx, dy)) / 24.0;
    return sums;
  }
  const Rule& points = rules[static_cast<std::size_t>(rule)];
  for (std::size_t i = 0; i < points.points; ++i) {
    for (std::size_t j = 0; j < points.points; ++j) {
      add_point(sums, dx + points.node[j], dy + points.node[i],
                points.weight[i] * points.weight[j]);
    }
  }
  return sums;
}

namespace {

/// Of which pixels lanes hold values: those that are listed, or without a list those from `first`
/// on.
struct LanePixels {
  Eigen::Index first = 0;
  std::span<const Eigen::Index> listed;

  void put(Lanes values, double* to) const {
    if (listed.empty()) std::memcpy(to + first, &values, sizeof values);
    for (std::size_t lane = 0; lane < listed.size(); ++lane) to[listed[lane]] = values[lane];
  }
};

}  // namespace

/// Calls work(rule, dx, dy, pixels) for pixels of one rule each; of the last ones there may be
/// fewer than lanes, which then hold one of them again.
template <typename Work>
void MoffatProfile::for_lanes(const Eigen::ArrayXd& dx, const Eigen::ArrayXd& dy,
                              const Work& work) const {
  std::array<std::vector<Eigen::Index>, rules.size()> indices;
  const auto sort_in = [&](Eigen::Index i) {
    indices[static_cast<std::size_t>(rule_at(dx[i], dy[i]))].push_back(i);
  };
  constexpr auto lanes = static_cast<Eigen::Index>(lane_count);
  Eigen::Index i = 0;
  for (; i + lanes <= dx.size(); i += lanes) {  // most are far from the star and need no sorting
    Lanes x, y;
    std::memcpy(&x, dx.data() + i, sizeof x);
    std::memcpy(&y, dy.data() + i, sizeof y);
    const Lanes smoothness = smoothness_ * (1.0 + form(x, y));
    const Lanes least = smoothness - rules[static_cast<std::size_t>(centre_rule)].least_smoothness;
    if (std::min(std::min(least[0], least[1]), std::min(least[2], least[3])) >= 0) {
      work(centre_rule, x, y, LanePixels{i, {}});
    } else {
      for (Eigen::Index lane = 0; lane < lanes; ++lane) sort_in(i + lane);
    }
  }
  for (; i < dx.size(); ++i) sort_in(i);
  for (std::size_t rule = 0; rule < rules.size(); ++rule) {
    const std::span<const Eigen::Index> own = indices[rule];
    for (std::size_t first = 0; first < own.size(); first += lane_count) {
      const auto some = own.subspan(first, std::min(lane_count, own.size() - first));
      Lanes x{}, y{};
      for (std::size_t lane = 0; lane < lane_count; ++lane) {
        const Eigen::Index pixel = some[std::min(lane, some.size() - 1)];
        x[lane] = dx[pixel];
        y[lane] = dy[pixel];
      }
      work(static_cast<int>(rule), x, y, LanePixels{0, some});
    }
  }
}

double MoffatProfile::pixel(double dx, double dy) const {
  return integral(rule_at(dx, dy), lanes_of(dx), lanes_of(dy))[0];
}

double MoffatProfile::most_beyond(double distance_px) const {
  // along the major axis, at the pixel's nearest corner; 1 %: errors of the rules
  const double nearest = std::max(0.0, distance_px - std::numbers::sqrt2 / 2);
  return 1.01 * peak_ *
         std::pow(1 + (1 - ellipticity_) * inverse_area_ * nearest * nearest, -beta_);
}

Eigen::ArrayXd MoffatProfile::pixels(const Eigen::ArrayXd& dx, const Eigen::ArrayXd& dy) const {
  Eigen::ArrayXd values(dx.size());
  for_lanes(dx, dy, [&](int rule, Lanes x, Lanes y, const LanePixels& of) {
    of.put(integral(rule, x, y), values.data());
  });
  return values;
}

MoffatTerms MoffatProfile::terms(const Eigen::ArrayXd& dx, const Eigen::ArrayXd& dy) const {
  MoffatTerms terms(dx.size(), static_cast<int>(moffat_term_count));
  for_lanes(dx, dy, [&](int rule, Lanes x, Lanes y, const LanePixels& of) {
    const Sums got = integrals(rule, x, y);
    for (int term = 0; term < moffat_term_count; ++term)
      of.put(got[static_cast<std::size_t>(term)], terms.col(term).data());
  });
  return terms;
}

}  // namespace limpid
