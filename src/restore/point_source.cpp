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
  // sums along a row first: what a plane needs of y is the same for all of it
  Eigen::Matrix3d matrix = Eigen::Matrix3d::Zero();
  Eigen::Vector3d right = Eigen::Vector3d::Zero();
  for (int y = 0; y < size; ++y) {
    double all = 0, by_x = 0, by_square = 0, seen = 0, seen_by_x = 0;
    for (int x = 0; x < size; ++x) {
      const double weight = window(x, y) / (noise + error(x, y) * error(x, y)), u = x - half;
      const double rest = weight * (made(x, y) - light(x, y));
      all += weight;
      by_x += weight * u;
      by_square += weight * u * u;
      seen += rest;
      seen_by_x += rest * u;
    }
    const double v = y - half;
    Eigen::Matrix3d row;
    row << all, by_x, all * v, by_x, by_square, by_x * v, all * v, by_x * v, all * v * v;
    matrix += row;
    right += Eigen::Vector3d(seen, seen_by_x, seen * v);
  }
  const Eigen::Vector3d plane = matrix.ldlt().solve(right);
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const double right_one =
                       plane[0] + plane[1] * (x - half) + plane[2] * (y - half) + light(x, y),
                   missing = right_one - made(x, y);
      double wrong = error(x, y) * error(x, y);
      const bool lit = point.light * static_cast<double>(recorded_psf(0, corner + y, corner + x)) >
                       lit_sigma * point.scatter;
      const double darkness = missing - dark_sigma * point.scatter;
      if (lit && darkness > 0) wrong += darkness * darkness;
      const double share = point.likely * window(x, y) * wrong / (wrong + noise);
      change(0, y, x) += static_cast<float>(share * missing);
    }
  }
}

}  // namespace limpid
