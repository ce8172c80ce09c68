#include "background/sky_start.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "background/lattice.h"
#include "core/parallel.h"
#include "core/statistics.h"

namespace limpid::background {
namespace {

constexpr int longest_side_cells = 32;

/// A plane below which lies a twentieth of the cells: quantile regression (Koenker and Bassett
/// 1978, Econometrica 46, 33) by reweighted least squares. A constant where the plane explains
/// little more, for then nothing says that the sky slopes.
Fit fit_below(const Cells& cells) {
  constexpr double share_below = 0.05, gain_of_plane = 0.1;
  constexpr int rounds = 60;
  const auto channels = cells.values.cols(), count = cells.x.size();
  const auto fit_order = [&](int order) {
    const Shape shape{order, {}};
    Fit fit{shape, Eigen::MatrixXd::Zero(shape.term_count(), channels), 0};
    const Eigen::MatrixXd design = shape.design(cells);
    for (Eigen::Index c = 0; c < channels; ++c) {
      const auto values = cells.values.col(c);
      Eigen::VectorXd weight = cells.weight, misfit;
      const double scale = values.maxCoeff() - values.minCoeff();
      for (int round = 0; round < rounds; ++round) {
        const Eigen::MatrixXd weighted = weight.asDiagonal() * design;
        Eigen::MatrixXd normal = design.transpose() * weighted;
        normal.diagonal().array() += 1e-9 * normal.trace();
        fit.coefficients.col(c) = normal.ldlt().solve(weighted.transpose() * values);
        misfit = values - design * fit.coefficients.col(c);
        // the kink at zero is rounded off less and less
        const double least = std::max(1e-3 * tolerance_sigma, scale * std::pow(0.8, round));
        for (Eigen::Index i = 0; i < count; ++i) {
          weight[i] = cells.weight[i] * (misfit[i] > 0 ? share_below : 1 - share_below) /
                      std::max(least, std::abs(misfit[i]));
        }
      }
      for (Eigen::Index i = 0; i < count; ++i) {
        fit.score += cells.weight[i] * misfit[i] * (misfit[i] > 0 ? share_below : share_below - 1);
      }
    }
    return fit;
  };
  Fit flat = fit_order(0);
  if (count < 9) return flat;
  Fit plane = fit_order(1);
  return plane.score < (1 - gain_of_plane) * flat.score ? plane : flat;
}

/// With `guess`, a sky of an earlier round, the median is that of the pixels over it, so that it
/// does not matter on which side of a steep cell the stars are.
Cells make_cells(ConstView frame, ConstView mask, ConstView guess, const std::vector<float>& noise,
                 double aspect_x, double aspect_y) {
  const int side = std::max(
      1, (std::max(frame.width(), frame.height()) + longest_side_cells - 1) / longest_side_cells);
  std::vector<double> x, y, weight;
  std::vector<std::vector<double>> values(static_cast<std::size_t>(frame.channels()));
  std::vector<float> samples;
  for (int top = 0; top < frame.height(); top += side) {
    for (int left = 0; left < frame.width(); left += side) {
      const int right = std::min(left + side, frame.width());
      const int bottom = std::min(top + side, frame.height());
      std::vector<double> medians;
      std::size_t used = 0;
      for (int c = 0; c < frame.channels(); ++c) {
        samples.clear();
        for (int v = top; v < bottom; ++v) {
          for (int u = left; u < right; ++u) {
            if (!(mask(0, v, u) > 0) || std::isnan(frame(c, v, u))) continue;
            samples.push_back(frame(c, v, u) - (guess.empty() ? 0 : guess(c, v, u)));
          }
        }
        if (samples.empty()) break;
        used = samples.size();
        float value = median_in_place(samples);
        if (!guess.empty()) {
          const int x0 = (left + right - 1) / 2, x1 = (left + right) / 2;
          const int y0 = (top + bottom - 1) / 2, y1 = (top + bottom) / 2;
          value +=
              0.25F * (guess(c, y0, x0) + guess(c, y0, x1) + guess(c, y1, x0) + guess(c, y1, x1));
        }
        medians.push_back(static_cast<double>(value) /
                          static_cast<double>(noise[static_cast<std::size_t>(c)]));
      }
      const double share = static_cast<double>(used) / (static_cast<double>(side) * side);
      if (medians.size() < values.size() || share < 0.1) continue;
      x.push_back(aspect_x * (static_cast<double>(left + right) / frame.width() - 1));
      y.push_back(aspect_y * (static_cast<double>(top + bottom) / frame.height() - 1));
      weight.push_back(share);
      for (std::size_t c = 0; c < values.size(); ++c) values[c].push_back(medians[c]);
    }
  }
  const auto count = static_cast<Eigen::Index>(x.size());
  const auto channels = static_cast<Eigen::Index>(values.size());
  Cells cells{Eigen::Map<Eigen::VectorXd>(x.data(), count),
              Eigen::Map<Eigen::VectorXd>(y.data(), count),
              Eigen::MatrixXd(count, channels),
              Eigen::Map<Eigen::VectorXd>(weight.data(), count),
              aspect_x,
              aspect_y};
  for (Eigen::Index c = 0; c < channels; ++c) {
    cells.values.col(c) =
        Eigen::Map<Eigen::VectorXd>(values[static_cast<std::size_t>(c)].data(), count);
  }
  return cells;
}

/// The stiffness that the data ask for: restricted maximum likelihood of a spline whose bending is
/// random (Wahba 1985, Ann. Stat. 13, 1378; Wood 2011, JRSS B 73, 3), of
///
///     (n - t) log((|y - D c|^2 + l c^T P c) / (n - t)) + log|D^T D + l P| - rank(P) log l
///
/// in the weighted design D, with t unpenalised terms. White noise on a plane asks for a plane.
Eigen::VectorXd solve_smooth(const Eigen::MatrixXd& normal, const Eigen::VectorXd& right,
                             double power, double count, const Eigen::MatrixXd& penalty,
                             Eigen::Index rank, double stiffest, double softest) {
  const auto size = normal.rows();
  const double free_terms = static_cast<double>(size - rank);
  double best = std::numeric_limits<double>::infinity();
  Eigen::VectorXd chosen = Eigen::VectorXd::Zero(size);
  for (double stiffness = stiffest; stiffness >= softest; stiffness /= 2) {
    const Eigen::LDLT<Eigen::MatrixXd> system(normal + stiffness * penalty);
    const Eigen::VectorXd solution = system.solve(right);
    // |y - D c|^2 + l c^T P c at its minimum
    const double misfit = std::max(1e-12 * power, power - right.dot(solution));
    const double criterion = (count - free_terms) * std::log(misfit) +
                             system.vectorD().array().abs().log().sum() -
                             static_cast<double>(rank) * std::log(stiffness);
    if (criterion < best) {
      best = criterion;
      chosen = solution;
    }
  }
  return chosen;
}

/// The terms again, with a spline on a grid of points for what they miss. Cells further off than
/// the tolerance hardly count, so it follows the errors of the terms from where they are small and
/// leaves objects alone.
SplinePoints fit_rest(const Cells& cells, Fit& fit, SkyKind kind) {
  constexpr int side = 8, rounds = 8, planes = 3;
  constexpr Eigen::Index count = side * side;
  // Softer than this follows nebulae; bare sky may have any shape.
  const double softest = kind == SkyKind::bare ? 1e-6 : 0.003;
  const double tightest = kind == SkyKind::bare ? 1.0 : 0.3;
  const double widest = kind == SkyKind::bare ? 1e9 : tolerance_sigma;
  SplinePoints points{Eigen::VectorXd(count), Eigen::VectorXd(count),
                      Eigen::MatrixXd::Zero(count, cells.values.cols()), 2};
  for (int k = 0; k < count; ++k) {
    points.x[k] = static_cast<double>(k % side) / (side - 1);
    points.y[k] = static_cast<double>(k / side) / (side - 1);
  }
  if (cells.x.size() < 2 * count) return points;
  const SplineBasis spline(points);
  // the spline has the constant and the plane already
  const int own = fit.shape.order == 0 ? 1 : planes, extra = fit.shape.term_count() - own;
  const Eigen::MatrixXd plain = fit.shape.design(cells);
  Eigen::MatrixXd design(cells.x.size(), count + extra);
  design.rightCols(extra) = plain.rightCols(extra);
  for (Eigen::Index i = 0; i < cells.x.size(); ++i) {
    design.row(i).head(count) =
        spline.at(0.5 * (cells.x[i] / cells.aspect_x + 1), 0.5 * (cells.y[i] / cells.aspect_y + 1));
  }
  Eigen::MatrixXd penalty = Eigen::MatrixXd::Zero(count + extra, count + extra);
  penalty.topLeftCorner(count, count) = spline.bending;
  for (Eigen::Index c = 0; c < cells.values.cols(); ++c) {
    const Eigen::VectorXd values = cells.values.col(c) - plain * fit.coefficients.col(c);
    Eigen::VectorXd misfit = values, solution;
    double scale =
        kind == SkyKind::bare ? values.cwiseAbs().maxCoeff() / 0.6 : tolerance_sigma / 0.6;
    for (int round = 0; round < rounds; ++round) {
      std::vector<float> sizes(static_cast<std::size_t>(misfit.size()));
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        sizes[i] = static_cast<float>(misfit[static_cast<Eigen::Index>(i)]);
      }
      const double spread = static_cast<double>(robust_spread(sizes).sigma);
      // narrows to what is left by and by
      scale = std::clamp(std::max(0.6 * scale, 5 * spread), tightest, widest);
      Eigen::VectorXd weight(misfit.size());
      for (Eigen::Index i = 0; i < misfit.size(); ++i) {
        const double u = misfit[i] / scale;
        weight[i] = cells.weight[i] / ((1 + u * u) * (1 + u * u));
      }
      const Eigen::MatrixXd weighted = weight.asDiagonal() * design;
      Eigen::MatrixXd normal = design.transpose() * weighted;
      normal.diagonal().array() += 1e-10 * normal.trace();
      solution = solve_smooth(normal, weighted.transpose() * values,
                              values.dot(weight.cwiseProduct(values)), weight.sum(), penalty,
                              count - planes, 1e6, softest);
      misfit = values - design * solution;
    }
    points.values.col(c) = solution.head(count);
    fit.coefficients.col(c).tail(extra) += solution.tail(extra);
  }
  return points;
}

/// What the misfits of the sky itself allow.
double narrowed_tolerance(const Cells& cells, const Fit& fit) {
  constexpr double sigmas = 4, narrowest = 0.15;
  const Eigen::MatrixXd misfit = cells.values - fit.shape.design(cells) * fit.coefficients;
  std::vector<float> sizes(static_cast<std::size_t>(misfit.size()));
  std::ranges::transform(misfit.reshaped(), sizes.begin(),
                         [](double size) { return static_cast<float>(size); });
  const auto spread = static_cast<double>(robust_spread(sizes).sigma);
  return std::clamp(sigmas * spread, narrowest, tolerance_sigma);
}

/// How many terms, and which: more of them only where they explain clearly more. `known`: what was
/// found before, with another mask.
Fit find_terms(const Cells& cells, SkyKind kind, const Shape& known, int threads) {
  const auto samples = static_cast<double>(cells.values.size());
  // Where all is sky, it may be anything that is not chance (Schwarz 1978, Ann. Stat. 6, 461). Else
  // each term must explain a share of the cells: less is nebula.
  const auto price = [&](const Fit& fit) {
    constexpr double per_order = 0.02, per_glow = 0.04, numbers_of_glow = 4;
    const auto glows = static_cast<double>(fit.shape.glows.size());
    if (kind != SkyKind::bare) return fit.score + per_order * fit.shape.order + per_glow * glows;
    const auto channels = static_cast<double>(cells.values.cols());
    const double numbers = channels * fit.shape.term_count() + numbers_of_glow * glows;
    return samples * std::log(fit.score) + numbers * std::log(samples);
  };
  Fit best = fit_shape(cells, {0, {}});
  const auto offer = [&](Fit fit) {
    if (std::isfinite(fit.score) && price(fit) < price(best)) best = std::move(fit);
  };
  if (cells.x.size() >= 9) offer(fit_shape(cells, {1, {}}));
  if (cells.x.size() < 24) return best;
  offer(fit_shape(cells, {2, {}}));
  Fit one = find_one_glow(cells, known.glows, threads);
  Fit two = find_two_glows(cells, one, known.glows, threads);
  offer(polish(cells, fit_shape(cells, {2, one.shape.glows})));
  offer(polish(cells, fit_shape(cells, {1, two.shape.glows})));
  offer(std::move(one));
  offer(std::move(two));
  if (!known.glows.empty()) offer(polish(cells, fit_shape(cells, known)));
  // faint edges of objects, once the sky is nearly right
  return kind == SkyKind::bare ? best : polish(cells, best, narrowed_tolerance(cells, best));
}

}  // namespace

void SkyStart::at(double u, double v, std::span<float> values) const {
  Eigen::VectorXd terms(shape_.term_count());
  shape_.fill_terms(aspect_x_ * (2 * u - 1), aspect_y_ * (2 * v - 1), terms);
  for (std::size_t c = 0; c < values.size(); ++c) {
    const double bent = rest_ ? rest_->at(static_cast<int>(c), u, v) : 0;
    values[c] =
        static_cast<float>(terms.dot(coefficients_.col(static_cast<Eigen::Index>(c))) + bent);
  }
}

Image SkyStart::render(Size size, int threads) const {
  const auto on_pixel = [&](double x, double y, std::span<float> values) {
    at((x + 0.5) / size.width, (y + 0.5) / size.height, values);
  };
  const int channels = static_cast<int>(coefficients_.cols());
  const Image nodes = make_nodes(channels, size, on_pixel, threads);
  Image sky(channels, size);
  parallel_for(size.height, threads, [&](int y) {
    for (int c = 0; c < channels; ++c) fill_from_nodes(nodes.view(), c, y, sky.view().row(c, y));
  });
  return sky;
}

SkyStart fit_sky_start(ConstView frame, ConstView mask, ConstView guess,
                       const std::vector<float>& noise, SkyKind kind, const Shape& known,
                       int threads) {
  SkyStart start;
  const double longest = std::max(frame.width(), frame.height());
  start.aspect_x_ = frame.width() / longest;
  start.aspect_y_ = frame.height() / longest;
  const Cells cells = make_cells(frame, mask, guess, noise, start.aspect_x_, start.aspect_y_);
  const bool seen = kind != SkyKind::hidden;
  Fit best = seen ? find_terms(cells, kind, known, threads) : fit_below(cells);
  start.shape_ = best.shape;
  SplinePoints rest;
  if (seen) rest = fit_rest(cells, best, kind);
  start.coefficients_ = best.coefficients;
  for (Eigen::Index c = 0; c < start.coefficients_.cols(); ++c) {
    const auto unit = static_cast<double>(noise[static_cast<std::size_t>(c)]);
    start.coefficients_.col(c) *= unit;
    if (rest.count() > 0) rest.values.col(c) *= unit;
  }
  if (rest.count() > 0) start.rest_.emplace(rest);
  return start;
}

}  // namespace limpid::background
