// Bright stars found again with one profile, and what they show beside it on a fine grid.
#pragma once

#include <cstddef>
#include <vector>

#include <Eigen/Core>

#include <limpid/stars.h>

#include "measure/moffat.h"
#include "measure/polynomials.h"

namespace limpid {

/// Cells of the grid per pixel.
inline constexpr int oversampling = 2;
/// Cells across a grid that reaches so far.
inline int grid_side(int reach_px) { return 2 * oversampling * (reach_px + 1) + 1; }
inline std::size_t cell_of(int column, int row, int side) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(side) +
         static_cast<std::size_t>(column);
}

/// From this share of the reach on pixels tell the level about a star.
inline constexpr double outermost_share = 0.85;
/// Of the polynomials of position that a cell of the grid is.
inline constexpr int highest_order = 2;
/// Coefficients on the grid, one plane of side * side cells per term.
using Planes = std::vector<std::vector<float>>;

/// Bilinear, on a plane of side * side cells.
double interpolate(const std::vector<float>& plane, int side, double column, double row);
/// The residual on the grid as the planes say it is where the polynomials have these values, of
/// highest_order or less; empty without planes.
std::vector<float> plane_at(const Planes& planes, const Eigen::VectorXd& terms);

/// One pixel of one star: where on the grid it falls, and by how much it misses the Moffat.
struct Sample {
  float column, row;             ///< grid coordinates
  float value, variance, prior;  ///< as shares of the star's flux; prior is one sigma
};
struct StarSamples {
  Eigen::VectorXd terms;
  std::vector<Sample> samples;
};

/// A star in one channel, and where it lies and how bright it is with the field's profile. Fits of
/// single stars differ in profile: what is left of them has no mean that the field's Moffat could
/// be mended with.
class StackedStar {
 public:
  /// The star must have a fit in this channel. `sigma`: of the sky.
  StackedStar(ConstView frame, int channel, const Star& star,
              const std::vector<const Star*>& others, const Psf& psf, double sigma, int reach_px);
  /// Finds the star again with what is now known of the PSF; what is left of it beside the Moffat.
  /// No samples if it is not found.
  [[nodiscard]] StarSamples samples(const Planes& planes);

 private:
  using Pixels = std::vector<Eigen::Index>;
  void take_pixels(ConstView frame, const Star& star, const std::vector<const Star*>& others);
  [[nodiscard]] Pixels within(double from, double to) const;
  [[nodiscard]] Eigen::ArrayXd beyond_moffat(const std::vector<float>& plane,
                                             const Eigen::ArrayXd& dx,
                                             const Eigen::ArrayXd& dy) const;
  [[nodiscard]] double on_grid(double px) const;
  [[nodiscard]] Eigen::ArrayXd variance(const Eigen::ArrayXd& light) const;
  void find(const std::vector<float>& plane);
  void level(const std::vector<float>& plane);
  [[nodiscard]] StarSamples left() const;

  int reach_, side_;
  double sigma_, sky_sigma_, core_px_;
  Eigen::VectorXd terms_;
  MoffatProfile profile_;
  Eigen::ArrayXd x_, y_, values_;  ///< of the pixels about it in which no other star shines
  struct Place {
    double x = 0, y = 0, flux = 0, sky = 0;
  } at_;
};

}  // namespace limpid
