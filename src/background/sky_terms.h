// The sky as few numbers: a polynomial of low order and glows, fitted robustly to cells of a frame.
#pragma once

#include <limits>
#include <vector>

#include <Eigen/Dense>

namespace limpid::background {

/// Light scattered from a place at the frame's edge or beyond: (1 + (d / reach)^2)^(-falloff / 2),
/// d in units of half the frame's longer side. Far from a town that is Walker's law, d^-2.5 (1977,
/// PASP 89, 405); a large reach with a steep falloff is close to Garstang's (1989, PASP 101, 306)
/// nearly exponential domes.
struct Glow {
  double x = 0, y = 0, reach = 1, falloff = 2.5;
};

/// Misfits of this size, in units of the noise of one pixel, cost half of what any misfit can cost.
/// Light that stands out by less can hardly be told from sky.
inline constexpr double tolerance_sigma = 0.5;

/// Medians of square cells, so that stars hardly matter; values in units of the noise.
struct Cells {
  Eigen::VectorXd x, y;               // [-1, 1] over the frame's longer side
  Eigen::MatrixXd values;             // (cells, channels)
  Eigen::VectorXd weight;             // share of the cell that took part
  double aspect_x = 1, aspect_y = 1;  // where x and y end
};

/// c . (1, x, y, x^2, xy, y^2, glows), of the polynomial what `order` has.
struct Shape {
  int order = 0;
  std::vector<Glow> glows;
  [[nodiscard]] int term_count() const {
    return (order + 1) * (order + 2) / 2 + static_cast<int>(glows.size());
  }
  void fill_terms(double x, double y, Eigen::Ref<Eigen::VectorXd> terms) const;
  /// (cells, terms)
  [[nodiscard]] Eigen::MatrixXd design(const Cells& cells) const;
};

struct Fit {
  Shape shape;
  Eigen::MatrixXd coefficients;                            // (terms, channels)
  double score = std::numeric_limits<double>::infinity();  // mean cost of the misfits
};

/// The coefficients for a given shape. Infinite score: no sky, for it peaks inside the frame or has
/// a dark glow.
Fit fit_shape(const Cells& cells, const Shape& shape);

/// All numbers of a sky at once, the places and shapes of its glows, too, from where they are.
/// `tolerance` is that of the cost; the score is that of tolerance_sigma.
Fit polish(const Cells& cells, Fit fit, double tolerance = tolerance_sigma);

/// The best sky found with a plane and one glow, or a parabola and two. `known`: glows to begin
/// with, too.
Fit find_one_glow(const Cells& cells, const std::vector<Glow>& known, int threads);
Fit find_two_glows(const Cells& cells, const Fit& one, const std::vector<Glow>& known, int threads);

}  // namespace limpid::background
