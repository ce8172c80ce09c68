#include "background/starts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <Eigen/Dense>

#include "core/random.h"
#include "core/statistics.h"

namespace limpid::background {
namespace {

/// Values of control points from the frame itself, as the source does: under a mask the median.
double pixel_start(const Scene& scene, int channel, double u, double v) {
  const ConstView frame = scene.stretched.view().channel(channel);
  const int x = std::clamp(static_cast<int>(u * frame.width()), 0, frame.width() - 1);
  const int y = std::clamp(static_cast<int>(v * frame.height()), 0, frame.height() - 1);
  const double median = 1.0 / static_cast<double>(stretch_ratio);
  const double part = static_cast<double>(scene.mask.view()(0, y, x)),
               pixel = static_cast<double>(frame(0, y, x));
  return std::isnan(pixel) ? median : part * pixel + (1 - part) * median;
}

/// Median of the pixels around a place that take part in the fit, as near to it as there are enough
/// of them: 49, whose median is six times as quiet as one. Where none is, the robust start. What is
/// known of the sky, if anything is, takes no part in it: its slope would.
float sky_around(const Scene& scene, int channel, double u, double v, const SkyAt& known) {
  constexpr std::size_t enough = 49;
  const Size size = scene.linear.size();
  const int x = std::clamp(static_cast<int>(u * size.width), 0, size.width - 1);
  const int y = std::clamp(static_cast<int>(v * size.height), 0, size.height - 1);
  const Places places(scene.factor, size);
  std::vector<float> sky(static_cast<std::size_t>(scene.linear.channels()), 0);
  const auto known_at = [&](double across, double down) {
    if (known) known(places.x(across), places.y(down), sky);
    return sky[static_cast<std::size_t>(channel)];
  };
  std::vector<float> seen;
  for (int reach = 3; seen.size() < enough && reach < 2 * std::max(size.width, size.height);
       reach *= 2) {
    seen.clear();
    const Rect around = intersect({x - reach, y - reach, 2 * reach + 1, 2 * reach + 1},
                                  {0, 0, size.width, size.height});
    for (int j = around.y; j < around.y + around.height; ++j) {
      for (int i = around.x; i < around.x + around.width; ++i) {
        const float pixel = scene.linear.view()(channel, j, i);
        if (scene.mask.view()(0, j, i) > 0.5F && !std::isnan(pixel))
          seen.push_back(pixel - known_at(static_cast<double>(i) / size.width,
                                          static_cast<double>(j) / size.height));
      }
    }
  }
  return seen.empty() ? scene.start.view()(channel, y, x) : median_in_place(seen) + known_at(u, v);
}

/// How far the pixels around points that have values lie above the sky that these make, in the
/// middle: faint stars lift them.
float usual_excess(const Scene& scene, int channel, const BackgroundOptions& options,
                   const SkyAt& known) {
  const Places places(scene.factor, scene.linear.size());
  std::vector<float> excess, sky(static_cast<std::size_t>(scene.linear.channels()));
  for (const ControlPoint& point : options.points) {
    const double u = places.u(static_cast<double>(point.x)),
                 v = places.v(static_cast<double>(point.y));
    if (point.values.empty() || u < 0 || v < 0 || u > 1 || v > 1) continue;
    known(static_cast<double>(point.x), static_cast<double>(point.y), sky);
    excess.push_back(sky_around(scene, channel, u, v, known) -
                     sky[static_cast<std::size_t>(channel)]);
  }
  return excess.empty() ? 0 : median_in_place(excess);
}

double start_value(const Scene& scene, bool robust, int channel, double u, double v) {
  if (!robust) return pixel_start(scene, channel, u, v);
  const ConstView sky = scene.start.view().channel(channel);
  const int x = std::clamp(static_cast<int>(u * sky.width()), 0, sky.width() - 1);
  const int y = std::clamp(static_cast<int>(v * sky.height()), 0, sky.height() - 1);
  return static_cast<double>(
      stretched(scene.stretch[static_cast<std::size_t>(channel)], sky(0, y, x)));
}

/// Values for which the spline is nearest, in units of the noise of the frame itself, to the
/// starting sky all over the frame.
void project(const Scene& scene, SplinePoints& points) {
  constexpr int across = 48;
  const Size size = scene.start.size();
  const int step = std::max(1, std::max(size.width, size.height) / across);
  const int wide = (size.width - 1) / step + 1, high = (size.height - 1) / step + 1;
  const SplineBasis spline(points);
  Eigen::MatrixXd design(static_cast<Eigen::Index>(wide) * high, points.count());
  Eigen::MatrixXd sky(design.rows(), points.channels());
  // how many sigma a change of the stretched sky is
  Eigen::MatrixXd sigmas = Eigen::MatrixXd::Zero(design.rows(), points.channels());
  Eigen::Index row = 0;
  for (int y = 0; y < size.height; y += step) {
    for (int x = 0; x < size.width; x += step, ++row) {
      design.row(row) =
          spline.at(static_cast<double>(x) / size.width, static_cast<double>(y) / size.height);
      for (int c = 0; c < scene.start.channels(); ++c) {
        const SkyStretch& stretch = scene.stretch[static_cast<std::size_t>(c)];
        const float level = scene.start.view()(c, y, x);
        const float noise = scene.noise[static_cast<std::size_t>(c)];
        const double value = static_cast<double>(stretched(stretch, level));
        const double change = static_cast<double>(stretched(stretch, level + 0.5F * noise)) -
                              static_cast<double>(stretched(stretch, level - 0.5F * noise));
        sigmas(row, points.channels() == 1 ? 0 : c) += 1 / std::max(1e-9, change);
        // linked channels share the mean of their stretched skies
        if (points.channels() == 1) {
          sky(row, 0) = (c == 0 ? 0 : sky(row, 0)) + value / scene.start.channels();
        } else {
          sky(row, c) = value;
        }
      }
    }
  }
  for (int c = 0; c < points.channels(); ++c) {
    const Eigen::VectorXd weight = (sigmas.col(c) / sigmas.col(c).mean()).array().square();
    const Eigen::MatrixXd weighted = weight.asDiagonal() * design;
    Eigen::MatrixXd normal = design.transpose() * weighted;
    normal.diagonal().array() += 1e-9 * normal.trace();
    points.values.col(c) = normal.ldlt().solve(weighted.transpose() * sky.col(c));
  }
}

}  // namespace

SplinePoints lay_out(const Scene& scene, const BackgroundOptions& options, int index) {
  Random random(options.seed, static_cast<std::uint64_t>(index));
  const bool grid = options.layout == PointLayout::grid && index < 2;
  const int side = std::max(2, static_cast<int>(std::lround(std::sqrt(options.control_points))));
  const int count = grid ? side * side : options.control_points;
  const int channels = options.link_channels ? 1 : scene.linear.channels();
  SplinePoints points{Eigen::VectorXd(count), Eigen::VectorXd(count),
                      Eigen::MatrixXd(count, channels), options.order};
  const double shake = index == 0 ? 0 : 0.3 / (side - 1);
  // A thin plate is flat at its outermost points, which a sky is not at the frame's edge: of 0 to
  // 0.2 of the frame, 0.2 had the least errors on all simulated skies.
  const double beyond = options.robust_start ? 0.2 : 0;
  for (int k = 0; k < count; ++k) {
    if (grid) {
      const auto place = [&](int i) { return (1 + 2 * beyond) * i / (side - 1) - beyond; };
      points.x[k] = place(k % side) + shake * random.uniform(-1, 1);
      points.y[k] = place(k / side) + shake * random.uniform(-1, 1);
    } else {
      points.x[k] = random.uniform();
      points.y[k] = random.uniform();
    }
    for (int c = 0; c < channels; ++c) {
      double value = 0;
      // linked channels share the mean of their stretched skies
      const int first = options.link_channels ? 0 : c;
      const int last = options.link_channels ? scene.linear.channels() - 1 : c;
      for (int from = first; from <= last; ++from) {
        value += start_value(scene, options.robust_start, from, points.x[k], points.y[k]);
      }
      points.values(k, c) = value / (last - first + 1);
    }
  }
  if (options.robust_start) project(scene, points);
  return points;
}

std::vector<ControlPoint> with_values(const Scene& scene, const BackgroundOptions& options,
                                      const SkyAt& known) {
  const Places places(scene.factor, scene.linear.size());
  std::vector<ControlPoint> points = options.points;
  if (std::ranges::none_of(points, [](const ControlPoint& p) { return p.values.empty(); }))
    return points;
  std::vector<float> excess;
  for (int c = 0; c < scene.linear.channels(); ++c)
    excess.push_back(known ? usual_excess(scene, c, options, known) : 0);
  for (ControlPoint& point : points) {
    if (!point.values.empty()) continue;
    std::vector<double> sky;
    for (int c = 0; c < scene.linear.channels(); ++c) {
      const auto at = static_cast<std::size_t>(c);
      const float level = sky_around(scene, c, places.u(static_cast<double>(point.x)),
                                     places.v(static_cast<double>(point.y)), known);
      sky.push_back(static_cast<double>(stretched_open(scene.stretch[at], level - excess[at])));
    }
    if (options.link_channels) {
      const double mean =
          std::accumulate(sky.begin(), sky.end(), 0.0) / static_cast<double>(sky.size());
      std::ranges::fill(sky, mean);
    }
    for (std::size_t c = 0; c < sky.size(); ++c)
      point.values.push_back(unstretched(scene.stretch[c], static_cast<float>(sky[c])));
  }
  return points;
}

SplinePoints from_user(const Scene& scene, const BackgroundOptions& options) {
  const Places places(scene.factor, scene.linear.size());
  const auto count = static_cast<Eigen::Index>(options.points.size());
  const int channels = options.link_channels ? 1 : scene.linear.channels();
  SplinePoints points{Eigen::VectorXd(count), Eigen::VectorXd(count),
                      Eigen::MatrixXd(count, channels), options.order};
  for (Eigen::Index k = 0; k < count; ++k) {
    const ControlPoint& point = options.points[static_cast<std::size_t>(k)];
    points.x[k] = places.u(static_cast<double>(point.x));
    points.y[k] = places.v(static_cast<double>(point.y));
    for (int c = 0; c < channels; ++c) {
      const auto at = static_cast<std::size_t>(c);
      points.values(k, c) = static_cast<double>(
          stretched_open(scene.stretch[at], point.values[std::min(at, point.values.size() - 1)]));
    }
  }
  return points;
}

}  // namespace limpid::background
