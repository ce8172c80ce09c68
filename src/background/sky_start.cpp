#include "background/sky_start.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "background/lattice.h"
#include "core/parallel.h"
#include "core/statistics.h"

namespace limpid::background {
namespace {

/// Medians of square cells, so that stars hardly matter; values in units of the noise.
struct Cells {
  Eigen::VectorXd x, y;
  Eigen::MatrixXd values;  // (cells, channels)
  Eigen::VectorXd weight;  // share of the cell that took part
};

struct Shape {
  int order = 0;
  std::vector<Glow> glows;
};

struct Fit {
  Shape shape;
  Eigen::MatrixXd coefficients;
  double score = std::numeric_limits<double>::infinity();
};

constexpr int longest_side_cells = 32;
/// Misfits of this size, in units of the noise of one pixel, cost half of what any misfit can cost.
/// Light that stands out by less can hardly be told from sky.
constexpr double tolerance_sigma = 0.5;
/// Light only adds: a sky above its data is twice as wrong.
constexpr double below_weight = 2;

int term_count(const Shape& shape) {
  return (shape.order + 1) * (shape.order + 2) / 2 + static_cast<int>(shape.glows.size());
}

double glow_at(const Glow& glow, double x, double y) {
  return std::exp(-std::hypot(x - glow.x, y - glow.y) / glow.reach);
}

void fill_terms(const Shape& shape, double x, double y, Eigen::Ref<Eigen::VectorXd> terms) {
  int i = 0;
  terms[i++] = 1;
  if (shape.order >= 1) {
    terms[i++] = x;
    terms[i++] = y;
  }
  if (shape.order >= 2) {
    terms[i++] = x * x;
    terms[i++] = x * y;
    terms[i++] = y * y;
  }
  for (const Glow& glow : shape.glows) terms[i++] = glow_at(glow, x, y);
}

/// Geman and McClure's cost of a misfit, between 0 and 1, and its weight in least squares.
double cost(double misfit, double scale) {
  const double u = misfit / scale * (misfit < 0 ? below_weight : 1);
  return u * u / (1 + u * u);
}
double cost_weight(double misfit, double scale) {
  const double side = misfit < 0 ? below_weight * below_weight : 1;
  const double u = misfit * misfit * side / (scale * scale);
  return side / ((1 + u) * (1 + u));
}

/// Iteratively reweighted least squares, the tolerance narrowing from the data's whole spread
/// (graduated non-convexity, Blake and Zisserman 1987).
Fit fit_shape(const Cells& cells, const Shape& shape) {
  constexpr double narrowing = 0.6;
  constexpr int rounds_at_the_end = 4;
  const int terms = term_count(shape);
  const auto channels = cells.values.cols(), count = cells.x.size();
  Fit fit{shape, Eigen::MatrixXd::Zero(terms, channels), 0};
  Eigen::MatrixXd design(count, terms);
  Eigen::VectorXd row(terms);
  for (Eigen::Index i = 0; i < count; ++i) {
    fill_terms(shape, cells.x[i], cells.y[i], row);
    design.row(i) = row;
  }
  for (Eigen::Index c = 0; c < channels; ++c) {
    const auto values = cells.values.col(c);
    Eigen::VectorXd weight = cells.weight, misfit;
    const auto solve = [&] {
      const Eigen::MatrixXd weighted = weight.asDiagonal() * design;
      Eigen::MatrixXd normal = design.transpose() * weighted;
      normal.diagonal().array() += 1e-9 * normal.trace();
      fit.coefficients.col(c) = normal.ldlt().solve(weighted.transpose() * values);
      misfit = values - design * fit.coefficients.col(c);
    };
    solve();
    double scale = std::sqrt(misfit.squaredNorm() / static_cast<double>(count));
    for (int left = rounds_at_the_end; left > 0;) {
      scale = std::max(tolerance_sigma, narrowing * scale);
      if (scale == tolerance_sigma) --left;
      for (Eigen::Index i = 0; i < count; ++i) {
        weight[i] = cells.weight[i] * cost_weight(misfit[i], scale);
      }
      solve();
    }
    double total = 0;
    for (Eigen::Index i = 0; i < count; ++i) {
      total += cells.weight[i] * cost(misfit[i], tolerance_sigma);
    }
    fit.score += total / cells.weight.sum() / static_cast<double>(channels);
  }
  const auto glows = static_cast<Eigen::Index>(shape.glows.size());
  for (Eigen::Index g = terms - glows; g < terms; ++g) {
    // scattered light cannot be dark
    if (fit.coefficients.row(g).sum() < 0) fit.score = std::numeric_limits<double>::infinity();
  }
  return fit;
}

/// The best single glow to add: a ring of places at the frame's edge and one beyond it, three
/// reaches; then each of place and reach is refined by halving steps.
Fit add_glow(const Cells& cells, const Shape& shape, double aspect_x, double aspect_y,
             int threads) {
  std::vector<Glow> candidates;
  constexpr int directions = 16;
  for (int i = 0; i < directions; ++i) {
    const double angle = 2 * std::numbers::pi * i / directions;
    // to the edge of the frame, so that every fourth odd direction is near a corner
    const double stretch = std::max(std::abs(std::cos(angle)), std::abs(std::sin(angle)));
    for (const double beyond : {1.0, 1.6}) {
      for (const double reach : {0.3, 0.7, 1.6}) {
        candidates.push_back({aspect_x * beyond * std::cos(angle) / stretch,
                              aspect_y * beyond * std::sin(angle) / stretch, reach});
      }
    }
  }
  std::vector<Fit> fits(candidates.size());
  const auto with = [&](const Glow& glow) {
    Shape more = shape;
    more.glows.push_back(glow);
    return fit_shape(cells, more);
  };
  parallel_for(static_cast<int>(candidates.size()), threads, [&](int i) {
    const auto at = static_cast<std::size_t>(i);
    fits[at] = with(candidates[at]);
  });
  Fit best = std::move(*std::ranges::min_element(fits, {}, &Fit::score));
  if (!std::isfinite(best.score)) return best;
  double place = 0.15, reach = 1.4;
  for (int round = 0; round < 5; ++round, place /= 2, reach = std::sqrt(reach)) {
    const Glow at = best.shape.glows.back();
    std::vector<Glow> around{{at.x + place, at.y, at.reach}, {at.x - place, at.y, at.reach},
                             {at.x, at.y + place, at.reach}, {at.x, at.y - place, at.reach},
                             {at.x, at.y, at.reach * reach}, {at.x, at.y, at.reach / reach}};
    // a light inside the frame is an object
    std::erase_if(around, [&](const Glow& glow) {
      return std::abs(glow.x) < 0.95 * aspect_x && std::abs(glow.y) < 0.95 * aspect_y;
    });
    std::vector<Fit> tries(around.size());
    parallel_for(static_cast<int>(around.size()), threads, [&](int i) {
      const auto k = static_cast<std::size_t>(i);
      tries[k] = with(around[k]);
    });
    for (Fit& attempt : tries) {
      if (attempt.score < best.score) best = std::move(attempt);
    }
  }
  return best;
}

Cells make_cells(ConstView frame, ConstView mask, const std::vector<float>& noise, double aspect_x,
                 double aspect_y) {
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
            if (mask(0, v, u) > 0 && !std::isnan(frame(c, v, u))) samples.push_back(frame(c, v, u));
          }
        }
        if (samples.empty()) break;
        used = samples.size();
        medians.push_back(static_cast<double>(median_in_place(samples)) /
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
              Eigen::Map<Eigen::VectorXd>(y.data(), count), Eigen::MatrixXd(count, channels),
              Eigen::Map<Eigen::VectorXd>(weight.data(), count)};
  for (Eigen::Index c = 0; c < channels; ++c) {
    cells.values.col(c) =
        Eigen::Map<Eigen::VectorXd>(values[static_cast<std::size_t>(c)].data(), count);
  }
  return cells;
}

/// What is left of the cells, by a stiff spline on a grid of points. Cells further off than the
/// tolerance hardly count, so it follows the errors of the terms from where they are small and
/// leaves objects alone.
SplinePoints fit_rest(const Cells& cells, const Fit& fit, SkyKind kind, double aspect_x,
                      double aspect_y) {
  constexpr int side = 6, rounds = 12;
  // Measured on simulated domes: stiffer leaves errors of half a sigma, softer follows nebulae.
  const double stiffness = kind == SkyKind::bare ? 1e-4 : 0.02;
  const double tolerance = kind == SkyKind::bare ? 8 * tolerance_sigma : tolerance_sigma;
  constexpr int count = side * side;
  SplinePoints points{Eigen::VectorXd(count), Eigen::VectorXd(count),
                      Eigen::MatrixXd::Zero(count, cells.values.cols()), 2};
  for (int k = 0; k < count; ++k) {
    points.x[k] = static_cast<double>(k % side) / (side - 1);
    points.y[k] = static_cast<double>(k / side) / (side - 1);
  }
  if (cells.x.size() < 2 * count) return points;
  const SplineBasis spline(points);
  Eigen::MatrixXd design(cells.x.size(), count);
  Eigen::MatrixXd terms(cells.x.size(), term_count(fit.shape));
  Eigen::VectorXd row(term_count(fit.shape));
  for (Eigen::Index i = 0; i < cells.x.size(); ++i) {
    design.row(i) = spline.at(0.5 * (cells.x[i] / aspect_x + 1), 0.5 * (cells.y[i] / aspect_y + 1));
    fill_terms(fit.shape, cells.x[i], cells.y[i], row);
    terms.row(i) = row;
  }
  for (Eigen::Index c = 0; c < cells.values.cols(); ++c) {
    const Eigen::VectorXd left = cells.values.col(c) - terms * fit.coefficients.col(c);
    for (int round = 0; round < rounds; ++round) {
      const Eigen::VectorXd misfit = left - design * points.values.col(c);
      Eigen::VectorXd weight(misfit.size());
      for (Eigen::Index i = 0; i < misfit.size(); ++i) {
        weight[i] = cells.weight[i] * cost_weight(misfit[i], tolerance);
      }
      const Eigen::MatrixXd weighted = weight.asDiagonal() * design;
      points.values.col(c) = (design.transpose() * weighted + stiffness * spline.bending +
                              1e-6 * Eigen::MatrixXd::Identity(count, count))
                                 .ldlt()
                                 .solve(weighted.transpose() * left);
    }
  }
  return points;
}

}  // namespace

Image SkyStart::render(Size size, int threads) const {
  const Shape shape{order_, glows_};
  const Spline rest(rest_);
  const auto at = [&](double x, double y, std::span<float> values) {
    const double u = (x + 0.5) / size.width, v = (y + 0.5) / size.height;
    Eigen::VectorXd terms(term_count(shape));
    fill_terms(shape, aspect_x_ * (2 * u - 1), aspect_y_ * (2 * v - 1), terms);
    for (std::size_t c = 0; c < values.size(); ++c) {
      values[c] = static_cast<float>(terms.dot(coefficients_.col(static_cast<Eigen::Index>(c))) +
                                     rest.at(static_cast<int>(c), u, v));
    }
  };
  const int channels = static_cast<int>(coefficients_.cols());
  const Image nodes = make_nodes(channels, size, at, threads);
  Image sky(channels, size);
  parallel_for(size.height, threads, [&](int y) {
    for (int c = 0; c < channels; ++c) fill_from_nodes(nodes.view(), c, y, sky.view().row(c, y));
  });
  return sky;
}

SkyStart fit_sky_start(ConstView frame, ConstView mask, const std::vector<float>& noise,
                       SkyKind kind, int threads) {
  // What a further term must explain, as a share of the cells: less is nebula or chance.
  constexpr double gain_of_order = 0.02, gain_of_glow = 0.04;
  constexpr int most_glows = 2;
  SkyStart start;
  const double longest = std::max(frame.width(), frame.height());
  start.aspect_x_ = frame.width() / longest;
  start.aspect_y_ = frame.height() / longest;
  const Cells cells = make_cells(frame, mask, noise, start.aspect_x_, start.aspect_y_);
  const auto count = cells.x.size();
  Fit best = fit_shape(cells, {0, {}});
  const auto take = [&best](Fit fit, double gain) {
    if (fit.score < best.score - gain) best = std::move(fit);
  };
  if (count >= 9) take(fit_shape(cells, {1, {}}), gain_of_order);
  if (count >= 24) {
    for (int glow = 0; glow < most_glows; ++glow) {
      const Shape before = best.shape;
      const int order = std::max(1, before.order);
      Fit wider = add_glow(cells, {order, before.glows}, start.aspect_x_, start.aspect_y_, threads);
      if (glow == 0) take(fit_shape(cells, {2, {}}), gain_of_order);
      take(std::move(wider), gain_of_glow);
      if (best.shape.glows.size() == before.glows.size()) break;
    }
    if (best.shape.order < 2) take(fit_shape(cells, {2, best.shape.glows}), gain_of_order);
  }
  start.order_ = best.shape.order;
  start.glows_ = best.shape.glows;
  start.coefficients_ = best.coefficients;
  start.rest_ = fit_rest(cells, best, kind, start.aspect_x_, start.aspect_y_);
  for (Eigen::Index c = 0; c < start.coefficients_.cols(); ++c) {
    start.rest_.values.col(c) *= static_cast<double>(noise[static_cast<std::size_t>(c)]);
    start.coefficients_.col(c) *= static_cast<double>(noise[static_cast<std::size_t>(c)]);
  }
  return start;
}

}  // namespace limpid::background
