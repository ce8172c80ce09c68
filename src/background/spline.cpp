#include "background/spline.h"

#include <algorithm>
#include <cmath>

namespace limpid::background {

double basis(int order, double square) {
  square = std::max(square, smallest_square);
  return order == 2 ? 0.5 * square * std::log(square) : square * std::sqrt(square);
}

double basis_slope(int order, double square) {
  square = std::max(square, smallest_square);
  return order == 2 ? 0.5 * (std::log(square) + 1) : 1.5 * std::sqrt(square);
}

namespace {

Eigen::MatrixXd make_phi(const SplinePoints& points, const SplinePoints& others) {
  Eigen::MatrixXd phi(points.count(), others.count());
  for (int i = 0; i < points.count(); ++i) {
    for (int k = 0; k < others.count(); ++k) {
      const double dx = points.x[i] - others.x[k], dy = points.y[i] - others.y[k];
      phi(i, k) = basis(points.order, dx * dx + dy * dy);
    }
  }
  return phi;
}

Eigen::MatrixXd make_system(const SplinePoints& points, const Eigen::MatrixXd& phi) {
  const int n = points.count();
  Eigen::MatrixXd system = Eigen::MatrixXd::Zero(n + 3, n + 3);
  system.topLeftCorner(n, n) = phi + spline_ridge * Eigen::MatrixXd::Identity(n, n);
  system.block(0, n, n, 1).setOnes();
  system.block(0, n + 1, n, 1) = points.x;
  system.block(0, n + 2, n, 1) = points.y;
  system.bottomLeftCorner(3, n) = system.topRightCorner(n, 3).transpose();
  return system;
}

}  // namespace

SplineBasis::SplineBasis(const SplinePoints& points)
    : x(points.x),
      y(points.y),
      order(points.order) {
  const int n = points.count();
  const Eigen::MatrixXd phi = make_phi(points, points);
  const Eigen::MatrixXd inverse = make_system(points, phi).inverse();
  w = inverse.topLeftCorner(n, n);
  v = inverse.bottomLeftCorner(3, n);
  bending = w.transpose() * phi * w;
}

Eigen::RowVectorXd SplineBasis::at(double u, double t) const {
  Eigen::RowVectorXd phi(x.size());
  for (Eigen::Index k = 0; k < x.size(); ++k) {
    phi[k] = basis(order, (u - x[k]) * (u - x[k]) + (t - y[k]) * (t - y[k]));
  }
  return phi * w + Eigen::RowVector3d(1, u, t) * v;
}

Spline::Spline(const SplinePoints& points) : points_(points), phi_(make_phi(points, points)) {
  const int n = points.count();
  system_.compute(make_system(points, phi_));
  Eigen::MatrixXd right = Eigen::MatrixXd::Zero(n + 3, points.channels());
  right.topRows(n) = points.values;
  const Eigen::MatrixXd solution = system_.solve(right);
  weights_.w = solution.topRows(n);
  weights_.v = solution.bottomRows(3);
}

double Spline::at(int channel, double x, double y) const {
  double sum = weights_.v(0, channel) + weights_.v(1, channel) * x + weights_.v(2, channel) * y;
  for (int k = 0; k < points_.count(); ++k) {
    const double dx = x - points_.x[k], dy = y - points_.y[k];
    sum += weights_.w(k, channel) * basis(points_.order, dx * dx + dy * dy);
  }
  return sum;
}

double Spline::bending(const Spline* reference) const {
  double energy = (weights_.w.transpose() * phi_ * weights_.w).trace();
  if (reference != nullptr) {
    const Eigen::MatrixXd& other = reference->weights_.w;
    energy += (other.transpose() * reference->phi_ * other).trace() -
              2 * (weights_.w.transpose() * make_phi(points_, reference->points_) * other).trace();
  }
  return energy / points_.channels();
}

SplinePoints Spline::gradient(WeightGradient by, double complexity, const Spline* reference) const {
  const int n = points_.count(), channels = points_.channels();
  const Eigen::MatrixXd& w = weights_.w;
  const double share = complexity / channels;
  by.w += 2 * share * phi_ * w;
  if (reference != nullptr) {
    by.w -= 2 * share * make_phi(points_, reference->points_) * reference->weights_.w;
  }
  Eigen::MatrixXd right(n + 3, channels);
  right << by.w, by.v;
  // The system is symmetric, so its transpose is solved by the same factors.
  const Eigen::MatrixXd adjoint = system_.solve(right);
  SplinePoints result{by.x, by.y, adjoint.topRows(n), points_.order};
  // d(system) z, seen through the adjoint: -u^T dPhi w - u^T dQ v - q^T dQ^T w.
  for (int i = 0; i < n; ++i) {
    for (int c = 0; c < channels; ++c) {
      const double u = adjoint(i, c);
      result.x[i] -= u * weights_.v(1, c) + adjoint(n + 1, c) * w(i, c);
      result.y[i] -= u * weights_.v(2, c) + adjoint(n + 2, c) * w(i, c);
    }
    for (int k = 0; k < n; ++k) {
      if (k == i) continue;
      const double dx = points_.x[i] - points_.x[k], dy = points_.y[i] - points_.y[k];
      const double slope = 2 * basis_slope(points_.order, dx * dx + dy * dy);
      double pull = 0;
      for (int c = 0; c < channels; ++c) {
        pull += 2 * share * w(i, c) * w(k, c) - adjoint(i, c) * w(k, c) - adjoint(k, c) * w(i, c);
      }
      result.x[i] += pull * slope * dx;
      result.y[i] += pull * slope * dy;
    }
    if (reference == nullptr) continue;
    const SplinePoints& others = reference->points_;
    for (int k = 0; k < others.count(); ++k) {
      const double dx = points_.x[i] - others.x[k], dy = points_.y[i] - others.y[k];
      const double slope = 2 * basis_slope(points_.order, dx * dx + dy * dy);
      const double pull = -2 * share * w.row(i).dot(reference->weights_.w.row(k));
      result.x[i] += pull * slope * dx;
      result.y[i] += pull * slope * dy;
    }
  }
  return result;
}

}  // namespace limpid::background
