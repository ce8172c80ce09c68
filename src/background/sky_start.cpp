#include "background/sky_start.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>

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
  const double dx = (x - glow.x) / glow.reach, dy = (y - glow.y) / glow.reach;
  return std::pow(1 + dx * dx + dy * dy, -0.5 * glow.falloff);
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

/// Whether a sky is brightest well inside the cells, which the centre of a galaxy is and no sky.
bool peaks_inside(const Cells& cells, const Eigen::MatrixXd& sky) {
  constexpr double clear_sigma = 2, rim = 0.85;
  const double right = cells.x.cwiseAbs().maxCoeff(), top = cells.y.cwiseAbs().maxCoeff();
  for (Eigen::Index c = 0; c < sky.cols(); ++c) {
    double edge = -std::numeric_limits<double>::infinity(), inside = edge;
    for (Eigen::Index i = 0; i < sky.rows(); ++i) {
      const bool outer = std::abs(cells.x[i]) > rim * right || std::abs(cells.y[i]) > rim * top;
      (outer ? edge : inside) = std::max(outer ? edge : inside, sky(i, c));
    }
    if (inside > edge + clear_sigma) return true;
  }
  return false;
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
  if (shape.order == 2 && peaks_inside(cells, design * fit.coefficients)) {
    fit.score = std::numeric_limits<double>::infinity();
  }
  const auto glows = static_cast<Eigen::Index>(shape.glows.size());
  for (Eigen::Index g = terms - glows; g < terms; ++g) {
    // scattered light cannot be dark
    if (fit.coefficients.row(g).sum() < 0) fit.score = std::numeric_limits<double>::infinity();
  }
  return fit;
}

/// A plane below which lies a twentieth of the cells: quantile regression (Koenker and Bassett
/// 1978, Econometrica 46, 33) by reweighted least squares. A constant where the plane explains
/// little more, for then nothing says that the sky slopes.
Fit fit_below(const Cells& cells) {
  constexpr double share_below = 0.05, gain_of_plane = 0.1;
  constexpr int rounds = 60;
  const auto channels = cells.values.cols(), count = cells.x.size();
  const auto fit_order = [&](int order) {
    const Shape shape{order, {}};
    const int terms = term_count(shape);
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

/// The best single glow to add: a ring of places at the frame's edge and one beyond it, three
/// reaches; then each of place and reach is refined by halving steps.
Fit add_glow(const Cells& cells, const Shape& shape, double aspect_x, double aspect_y,
             int threads) {
  constexpr double walker = 2.5, shallowest = 1, steepest = 5;
  std::vector<Glow> candidates;
  constexpr int directions = 16;
  for (int i = 0; i < directions; ++i) {
    const double angle = 2 * std::numbers::pi * i / directions;
    // to the edge of the frame, so that every fourth odd direction is near a corner
    const double stretch = std::max(std::abs(std::cos(angle)), std::abs(std::sin(angle)));
    for (const double beyond : {1.0, 1.6}) {
      for (const double reach : {0.3, 0.7, 1.6}) {
        candidates.push_back({aspect_x * beyond * std::cos(angle) / stretch,
                              aspect_y * beyond * std::sin(angle) / stretch, reach, walker});
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
  for (int round = 0; round < 12; ++round) {
    const Glow at = best.shape.glows.back();
    const double before = best.score;
    std::vector<Glow> around(8, at);
    around[0].x += place;
    around[1].x -= place;
    around[2].y += place;
    around[3].y -= place;
    around[4].reach *= reach;
    around[5].reach /= reach;
    around[6].falloff = std::min(steepest, at.falloff * std::sqrt(reach));
    around[7].falloff = std::max(shallowest, at.falloff / std::sqrt(reach));
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
    if (best.score < before) continue;
    place /= 2;
    reach = std::sqrt(reach);
  }
  return best;
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
              Eigen::Map<Eigen::VectorXd>(y.data(), count), Eigen::MatrixXd(count, channels),
              Eigen::Map<Eigen::VectorXd>(weight.data(), count)};
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
SplinePoints fit_rest(const Cells& cells, Fit& fit, SkyKind kind, double aspect_x,
                      double aspect_y) {
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
  const int terms = term_count(fit.shape);
  const int own = std::min(terms, fit.shape.order == 0 ? 1 : planes), extra = terms - own;
  Eigen::MatrixXd design(cells.x.size(), count + extra), plain(cells.x.size(), terms);
  Eigen::VectorXd row(terms);
  for (Eigen::Index i = 0; i < cells.x.size(); ++i) {
    fill_terms(fit.shape, cells.x[i], cells.y[i], row);
    plain.row(i) = row;
    design.row(i) << spline.at(0.5 * (cells.x[i] / aspect_x + 1),
                               0.5 * (cells.y[i] / aspect_y + 1)),
        row.tail(extra).transpose();
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

}  // namespace

Image SkyStart::render(Size size, int threads) const {
  const Shape shape{order_, glows_};
  std::optional<Spline> rest;
  if (rest_.count() > 0) rest.emplace(rest_);
  const auto at = [&](double x, double y, std::span<float> values) {
    const double u = (x + 0.5) / size.width, v = (y + 0.5) / size.height;
    Eigen::VectorXd terms(term_count(shape));
    fill_terms(shape, aspect_x_ * (2 * u - 1), aspect_y_ * (2 * v - 1), terms);
    for (std::size_t c = 0; c < values.size(); ++c) {
      const double bent = rest ? rest->at(static_cast<int>(c), u, v) : 0;
      values[c] =
          static_cast<float>(terms.dot(coefficients_.col(static_cast<Eigen::Index>(c))) + bent);
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

SkyStart fit_sky_start(ConstView frame, ConstView mask, ConstView guess,
                       const std::vector<float>& noise, SkyKind kind, int threads) {
  // What a further term must explain, as a share of the cells: less is nebula or chance.
  constexpr double gain_of_order = 0.02, gain_of_glow = 0.04;
  constexpr int most_glows = 2;
  SkyStart start;
  const double longest = std::max(frame.width(), frame.height());
  start.aspect_x_ = frame.width() / longest;
  start.aspect_y_ = frame.height() / longest;
  const Cells cells = make_cells(frame, mask, guess, noise, start.aspect_x_, start.aspect_y_);
  const auto count = cells.x.size();
  Fit best = kind == SkyKind::hidden ? fit_below(cells) : fit_shape(cells, {0, {}});
  const auto take = [&best](Fit fit, double gain) {
    if (fit.score < best.score - gain) best = std::move(fit);
  };
  const bool seen = kind != SkyKind::hidden;
  if (seen && count >= 9) take(fit_shape(cells, {1, {}}), gain_of_order);
  if (seen && count >= 24) {
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
  start.rest_ = seen ? fit_rest(cells, best, kind, start.aspect_x_, start.aspect_y_)
                     : SplinePoints{Eigen::VectorXd(0), Eigen::VectorXd(0),
                                    Eigen::MatrixXd(0, cells.values.cols()), 2};
  start.coefficients_ = best.coefficients;
  for (Eigen::Index c = 0; c < start.coefficients_.cols(); ++c) {
    start.rest_.values.col(c) *= static_cast<double>(noise[static_cast<std::size_t>(c)]);
    start.coefficients_.col(c) *= static_cast<double>(noise[static_cast<std::size_t>(c)]);
  }
  return start;
}

}  // namespace limpid::background
