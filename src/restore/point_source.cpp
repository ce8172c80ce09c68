#include "restore/point_source.h"

#include <array>
#include <cmath>

#include <Eigen/Dense>

#include "restore/geometry.h"

namespace limpid {
namespace {

constexpr double expected_coma = 0.1;    // of the measured PSF
constexpr double expected_share = 0.05;  // of the result, per pixel, of the light there
/// Where the recorded light of a point is seen, and how dark the result may be beside it.
constexpr double lit_sigma = 5, dark_sigma = 2;

}  // namespace

PointSource as_point(const Explanation& e, const PsfErrors& errors, double s, bool placed) {
  const double width_unit = s * s * e.light;  // of both second derivatives together
  const auto trusted = [](double sigma, double noise) {
    return sigma * sigma / (sigma * sigma + noise * noise);
  };
  struct Mode {
    double value, error, sigma;
  };
  const double both = std::hypot(e.own_error[3], e.own_error[5]);
  const Mode width{(e.own[3] + e.own[5]) / 2 / width_unit, both / 2 / width_unit, errors.width},
      along{(e.own[3] - e.own[5]) / width_unit, both / width_unit, errors.ellipticity},
      across{e.own[4] / width_unit, e.own_error[4] / width_unit, errors.ellipticity};
  double pulls = 0;
  for (const Mode& m : {width, along, across})
    pulls += m.value * m.value / (m.sigma * m.sigma + m.error * m.error) / 3;
  PointSource point;
  point.likely = falling(static_cast<float>(std::sqrt(pulls)), 2, 4);
  const auto likely = static_cast<double>(point.likely);
  const auto believed = [&](const Mode& m) {
    return likely * trusted(m.sigma, m.error) * m.value * width_unit;
  };
  Terms& result = point.error_of_psf;
  result[3] = believed(width) + believed(along) / 2;
  result[5] = believed(width) - believed(along) / 2;
  result[4] = believed(across);
  // coma bends the place: both belong together
  for (const std::size_t k : {1U, 2U, 6U, 7U}) {
    const double unit = e.light * (k < 3 ? s : s * s * s / 3);
    if (placed) result[k] = likely * trusted(expected_coma, e.own_error[k] / unit) * e.own[k];
  }
  return point;
}

void draw_point(const Stamp& stamp, int channel, ConstView drawn, ConstView recorded_psf,
                const Point& point, MutableView change) {
  const int size = change.width(), half = size / 2, corner = stamp.side() / 2 - half;
  const double noise = point.scatter * point.scatter;
  const auto made = [&](int x, int y) {
    return static_cast<double>(stamp.made(channel, corner + x, corner + y) + change(0, y, x));
  };
  const auto light = [&](int x, int y) {
    return point.light * static_cast<double>(drawn(0, y, x));
  };
  const auto error = [&](int x, int y) { return expected_share * light(x, y); };
  const auto window = [&](int x, int y) {
    return static_cast<double>(stamp.weight(corner + x, corner + y));
  };
  Eigen::Matrix3d matrix = Eigen::Matrix3d::Zero();
  Eigen::Vector3d right = Eigen::Vector3d::Zero();
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      if (window(x, y) == 0) continue;
      const double weight = window(x, y) / (noise + error(x, y) * error(x, y));
      const Eigen::Vector3d row(1, x - half, y - half);
      matrix += weight * row * row.transpose();
      right += weight * (made(x, y) - light(x, y)) * row;
    }
  }
  const Eigen::Vector3d plane = matrix.ldlt().solve(right);
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const double right_one = plane.dot(Eigen::Vector3d(1, x - half, y - half)) + light(x, y),
                   missing = right_one - made(x, y);
      double wrong = error(x, y) * error(x, y);
      const bool lit = point.light * static_cast<double>(recorded_psf(0, corner + y, corner + x)) >
                       lit_sigma * point.scatter;
      if (lit && missing > dark_sigma * point.scatter)
        wrong += std::pow(missing - dark_sigma * point.scatter, 2);
      const double share = point.likely * window(x, y) * wrong / (wrong + noise);
      change(0, y, x) += static_cast<float>(share * missing);
    }
  }
}

}  // namespace limpid
