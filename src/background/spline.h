// The polyharmonic spline: a few points with values, and the smooth surface through them.
#pragma once

#include <vector>

#include <Eigen/Dense>

namespace limpid::background {

/// s(p) = sum_k w_k phi(|p - p_k|) + v . (1, x, y), phi = r^2 log r (order 2, thin plate; Duchon
/// 1977) or r^3 (order 3). The weights follow from the values f by
///
///     [Phi + ridge I   Q] [w]   [f]
///     [Q^T             0] [v] = [0],     Q = rows (1, x_k, y_k)
///
/// and w^T Phi w is, up to a constant, the surface's bending energy. Coordinates are shares of the
/// frame's width and height, 0..1.
struct SplinePoints {
  Eigen::VectorXd x, y;    ///< one per point
  Eigen::MatrixXd values;  ///< (points, channels)
  int order = 2;
  [[nodiscard]] int count() const { return static_cast<int>(x.size()); }
  [[nodiscard]] int channels() const { return static_cast<int>(values.cols()); }
};

/// Keeps the system solvable where points meet; the surface then misses the values by ridge * w.
inline constexpr double spline_ridge = 1e-3;
/// Squared distances are never smaller: keeps the logarithm finite.
inline constexpr double smallest_square = 1e-12;

struct SplineWeights {
  Eigen::MatrixXd w;  ///< (points, channels)
  Eigen::MatrixXd v;  ///< (3, channels): of 1, x, y
};

/// phi as a function of the squared distance, and its derivative by that.
double basis(int order, double square);
double basis_slope(int order, double square);

/// How a surface follows from its values: row k of `weights` is the weight w of point k per unit of
/// each value; `bending` is the energy as a quadratic form of the values; `v` the affine part.
struct SplineBasis {
  explicit SplineBasis(const SplinePoints& points);
  /// Shares of the values in the surface at (x, y).
  [[nodiscard]] Eigen::RowVectorXd at(double x, double y) const;
  Eigen::VectorXd x, y;
  int order;
  Eigen::MatrixXd w, v, bending;
};

/// What the loss says about a surface: derivatives by its weights, and by the points with the
/// weights held.
struct WeightGradient {
  Eigen::MatrixXd w, v;
  Eigen::VectorXd x, y;
};

/// Solved once per iteration; turns gradients by weights into gradients by points and values.
class Spline {
 public:
  explicit Spline(const SplinePoints& points);
  [[nodiscard]] const SplineWeights& weights() const { return weights_; }
  [[nodiscard]] double at(int channel, double x, double y) const;
  /// Mean over the channels of w^T Phi w; with a `reference` that of the difference from it, which
  /// is a spline through both sets of points.
  [[nodiscard]] double bending(const Spline* reference = nullptr) const;
  /// By points and values, of loss + complexity * bending: the adjoint of the system above.
  [[nodiscard]] SplinePoints gradient(WeightGradient by_weights, double complexity,
                                      const Spline* reference = nullptr) const;

 private:
  SplinePoints points_;
  Eigen::MatrixXd phi_;
  Eigen::PartialPivLU<Eigen::MatrixXd> system_;
  SplineWeights weights_;
};

}  // namespace limpid::background
