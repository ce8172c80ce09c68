// Low-order polynomials of the position in a frame, as the PSF field and the effective PSF use
// them.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <Eigen/Dense>

namespace limpid {

/// Terms of a polynomial of that order in two variables.
inline int term_count(int order) { return (order + 1) * (order + 2) / 2; }

/// 1, u, v, u^2, uv, v^2, ...
inline Eigen::VectorXd polynomial_terms(double u, double v, int count) {
  Eigen::VectorXd terms(count);
  int i = 0;
  for (int degree = 0; i < count; ++degree) {
    for (int power = 0; power <= degree && i < count; ++power, ++i) {
      terms[i] = degree == 0      ? 1
                 : power < degree ? terms[i - degree] * u
                                  : terms[i - degree - 1] * v;
    }
  }
  return terms;
}

inline double evaluate_polynomial(const std::vector<double>& coefficients, double u, double v) {
  if (coefficients.empty()) return 0;
  const int count = static_cast<int>(coefficients.size());
  const Eigen::Map<const Eigen::VectorXd> c(coefficients.data(), count);
  return c.dot(polynomial_terms(u, v, count));
}

/// Position in [-1, 1] over the frame; beyond its edge the field stays what it is there.
inline double unit(double position, int length) {
  if (length <= 1) return 0;
  return std::clamp(2 * position / (length - 1) - 1, -1.0, 1.0);
}

}  // namespace limpid
