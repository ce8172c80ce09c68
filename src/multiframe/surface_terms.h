// Surfaces of second order over a frame.
#pragma once

#include <Eigen/Core>

namespace limpid::multiframe {

using SurfaceTerms = Eigen::Matrix<double, 6, 1>;

inline SurfaceTerms surface_terms(double u, double v) {
  return SurfaceTerms{1, u, v, u * u, u * v, v * v};
}

/// -1 at the left edge of the first pixel to 1 at the right edge of the last.
inline double along(double pixel, int length) { return (2 * pixel + 1) / length - 1; }

}  // namespace limpid::multiframe
