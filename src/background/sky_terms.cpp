#include "background/sky_terms.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace limpid::background {
namespace {

/// Light only adds: a sky above its data is twice as wrong.
constexpr double below_weight = 2;
/// Of one glow in polish: place, log reach, log falloff.
constexpr int own = 4;

double glow_at(const Glow& glow, double x, double y) {
  const double dx = (x - glow.x) / glow.reach, dy = (y - glow.y) / glow.reach;
  return std::pow(1 + dx * dx + dy * dy, -0.5 * glow.falloff);
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

double mean_cost(const Cells& cells, const Eigen::MatrixXd& misfit, double tolerance) {
  double total = 0;
  for (Eigen::Index c = 0; c < misfit.cols(); ++c) {
    for (Eigen::Index i = 0; i < misfit.rows(); ++i)
      total += cells.weight[i] * cost(misfit(i, c), tolerance);
  }
  return total / cells.weight.sum() / static_cast<double>(misfit.cols());
}

/// Whether a sky is brightest well inside the frame, which the centre of a galaxy is and no sky.
/// All of the frame counts, for its bright corner may be masked.
bool peaks_inside(const Cells& cells, const Fit& fit) {
  constexpr double clear_sigma = 2, rim = 0.85;
  constexpr int steps = 12;
  const auto channels = fit.coefficients.cols();
  constexpr double lowest = -std::numeric_limits<double>::infinity();
  Eigen::RowVectorXd edge = Eigen::RowVectorXd::Constant(channels, lowest), inside = edge;
  Eigen::VectorXd terms(fit.shape.term_count());
  for (int i = -steps; i <= steps; ++i) {
    for (int k = -steps; k <= steps; ++k) {
      fit.shape.fill_terms(cells.aspect_x * i / steps, cells.aspect_y * k / steps, terms);
      auto& highest = std::max(std::abs(i), std::abs(k)) > rim * steps ? edge : inside;
      highest = highest.cwiseMax(terms.transpose() * fit.coefficients);
    }
  }
  return (inside - edge).maxCoeff() > clear_sigma;
}

/// The score with what no sky has: a dark glow, or with a parabola a peak inside the frame.
double judge(const Cells& cells, const Fit& fit, const Eigen::MatrixXd& design) {
  const Eigen::MatrixXd sky = design * fit.coefficients;
  const auto glows = static_cast<Eigen::Index>(fit.shape.glows.size());
  const bool dark = glows > 0 && fit.coefficients.bottomRows(glows).rowwise().sum().minCoeff() < 0;
  if (dark || (fit.shape.order == 2 && peaks_inside(cells, fit))) {
    return std::numeric_limits<double>::infinity();
  }
  return mean_cost(cells, cells.values - sky, tolerance_sigma);
}

/// A light inside the frame is an object, and so is one at its edge that is narrow; one too far
/// away or too wide is a plane.
bool is_allowed(const Cells& cells, const Glow& glow) {
  constexpr double rim = 0.95, farthest = 20, narrowest = 0.35;
  const double half_light = glow.reach * std::sqrt(std::pow(2.0, 2 / glow.falloff) - 1);
  return (std::abs(glow.x) >= rim * cells.aspect_x || std::abs(glow.y) >= rim * cells.aspect_y) &&
         std::hypot(glow.x, glow.y) < farthest && half_light > narrowest && glow.reach < farthest;
}

/// Derivatives of the glows by place, log reach and log falloff: (cells, glows * own).
Eigen::MatrixXd glow_slopes(const Cells& cells, const std::vector<Glow>& glows) {
  const auto count = static_cast<Eigen::Index>(glows.size());
  Eigen::MatrixXd slopes(cells.x.size(), own * count);
  for (Eigen::Index g = 0; g < count; ++g) {
    const Glow& glow = glows[static_cast<std::size_t>(g)];
    for (Eigen::Index i = 0; i < cells.x.size(); ++i) {
      const double dx = (cells.x[i] - glow.x) / glow.reach;
      const double dy = (cells.y[i] - glow.y) / glow.reach;
      const double square = 1 + dx * dx + dy * dy, light = std::pow(square, -0.5 * glow.falloff);
      const double pull = glow.falloff * light / square;
      slopes.row(i).segment(own * g, own) << pull * dx / glow.reach, pull * dy / glow.reach,
          pull * (square - 1), -0.5 * glow.falloff * std::log(square) * light;
    }
  }
  return slopes;
}

/// The normal equations of coefficients (channel by channel) and glows about a fit.
struct Equations {
  Eigen::MatrixXd normal;
  Eigen::VectorXd right;
};

Equations linearise(const Cells& cells, const Fit& fit, const Eigen::MatrixXd& design,
                    double tolerance) {
  const auto terms = design.cols(), channels = cells.values.cols();
  const auto glows = static_cast<Eigen::Index>(fit.shape.glows.size());
  const auto shared = own * glows, first = channels * terms;
  Eigen::MatrixXd all(design.rows(), terms + shared);
  all << design, glow_slopes(cells, fit.shape.glows);
  Equations equations{Eigen::MatrixXd::Zero(first + shared, first + shared),
                      Eigen::VectorXd::Zero(first + shared)};
  for (Eigen::Index c = 0; c < channels; ++c) {
    const Eigen::VectorXd misfit = cells.values.col(c) - design * fit.coefficients.col(c);
    Eigen::VectorXd weight(misfit.size());
    for (Eigen::Index i = 0; i < misfit.size(); ++i) {
      weight[i] = cells.weight[i] * cost_weight(misfit[i], tolerance);
    }
    Eigen::MatrixXd slopes = all;
    for (Eigen::Index g = 0; g < glows; ++g) {
      slopes.middleCols(terms + own * g, own) *= fit.coefficients(terms - glows + g, c);
    }
    const Eigen::MatrixXd weighted = weight.asDiagonal() * slopes;
    const Eigen::MatrixXd block = slopes.transpose() * weighted;
    const Eigen::VectorXd pull = weighted.transpose() * misfit;
    equations.normal.block(c * terms, c * terms, terms, terms) = block.topLeftCorner(terms, terms);
    equations.normal.block(first, c * terms, shared, terms) = block.bottomLeftCorner(shared, terms);
    equations.normal.block(c * terms, first, terms, shared) = block.topRightCorner(terms, shared);
    equations.normal.bottomRightCorner(shared, shared) += block.bottomRightCorner(shared, shared);
    equations.right.segment(c * terms, terms) = pull.head(terms);
    equations.right.tail(shared) += pull.tail(shared);
  }
  return equations;
}

Fit moved(const Fit& fit, const Eigen::VectorXd& change) {
  constexpr double shallowest = 1, steepest = 5;
  const auto terms = fit.coefficients.rows(), channels = fit.coefficients.cols();
  Fit next = fit;
  next.coefficients += change.head(terms * channels).reshaped(terms, channels);
  const auto factor = [](double logarithm) { return std::exp(std::clamp(logarithm, -1.0, 1.0)); };
  auto at = terms * channels;
  for (Glow& glow : next.shape.glows) {
    glow.x += change[at];
    glow.y += change[at + 1];
    glow.reach *= factor(change[at + 2]);
    glow.falloff = std::clamp(glow.falloff * factor(change[at + 3]), shallowest, steepest);
    at += own;
  }
  return next;
}

}  // namespace

void Shape::fill_terms(double x, double y, Eigen::Ref<Eigen::VectorXd> terms) const {
  int i = 0;
  terms[i++] = 1;
  if (order >= 1) {
    terms[i++] = x;
    terms[i++] = y;
  }
  if (order >= 2) {
    terms[i++] = x * x;
    terms[i++] = x * y;
    terms[i++] = y * y;
  }
  for (const Glow& glow : glows) terms[i++] = glow_at(glow, x, y);
}

Eigen::MatrixXd Shape::design(const Cells& cells) const {
  Eigen::MatrixXd design(cells.x.size(), term_count());
  Eigen::VectorXd row(term_count());
  for (Eigen::Index i = 0; i < cells.x.size(); ++i) {
    fill_terms(cells.x[i], cells.y[i], row);
    design.row(i) = row;
  }
  return design;
}

/// Iteratively reweighted least squares, the tolerance narrowing from the data's whole spread
/// (graduated non-convexity, Blake and Zisserman 1987).
Fit fit_shape(const Cells& cells, const Shape& shape) {
  constexpr double narrowing = 0.6;
  constexpr int rounds_at_the_end = 4;
  const auto channels = cells.values.cols(), count = cells.x.size();
  Fit fit{shape, Eigen::MatrixXd::Zero(shape.term_count(), channels), 0};
  const Eigen::MatrixXd design = shape.design(cells);
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
  }
  fit.score = judge(cells, fit, design);
  return fit;
}

/// Steps of Levenberg and Marquardt (Marquardt 1963, SIAM J. 11, 431) with the weights of the
/// robust cost, taken while that falls.
Fit polish(const Cells& cells, Fit fit, double tolerance) {
  constexpr int steps = 60;
  constexpr double most_damped = 1e6, settled = 1e-5;
  if (fit.shape.glows.empty() || !std::isfinite(fit.score)) return fit;
  Eigen::MatrixXd design = fit.shape.design(cells);
  const auto cost_of = [&](const Fit& at, const Eigen::MatrixXd& terms) {
    return mean_cost(cells, cells.values - terms * at.coefficients, tolerance);
  };
  double reached = cost_of(fit, design), damping = 1e-3;
  for (int step = 0; step < steps && damping < most_damped; ++step) {
    const Equations equations = linearise(cells, fit, design, tolerance);
    for (bool falls = false; !falls && damping < most_damped;) {
      Eigen::MatrixXd damped = equations.normal;
      damped.diagonal() *= 1 + damping;
      damped.diagonal().array() += 1e-12 * damped.trace();
      Fit next = moved(fit, damped.ldlt().solve(equations.right));
      const auto allowed = [&cells](const Glow& glow) { return is_allowed(cells, glow); };
      if (next.coefficients.allFinite() && std::ranges::all_of(next.shape.glows, allowed)) {
        Eigen::MatrixXd terms = next.shape.design(cells);
        const double found = cost_of(next, terms);
        falls = found < reached;
        if (falls) {
          if (found > (1 - settled) * reached) step = steps;
          reached = found;
          fit = std::move(next);
          design = std::move(terms);
        }
      }
      damping = falls ? std::max(1e-9, damping / 5) : 4 * damping;
    }
  }
  fit.score = judge(cells, fit, design);
  return fit;
}

}  // namespace limpid::background
