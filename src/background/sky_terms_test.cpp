#include "background/sky_terms.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace limpid::background {
namespace {

/// A sky of known terms on 32 x 21 cells, in units of the noise of a pixel; that of a cell's median
/// is some 0.04.
Cells make_cells(const Shape& shape, const Eigen::VectorXd& coefficients) {
  constexpr int wide = 32, high = 21;
  Cells cells;
  cells.aspect_y = 0.66;
  cells.x.resize(wide * high);
  cells.y.resize(wide * high);
  for (int i = 0; i < wide * high; ++i) {
    cells.x[i] = 2 * (i % wide + 0.5) / wide - 1;
    cells.y[i] = cells.aspect_y * (2 * (i / wide + 0.5) / high - 1);
  }
  cells.weight = Eigen::VectorXd::Ones(cells.x.size());
  cells.values = shape.design(cells) * coefficients;
  std::mt19937 random(5);
  std::normal_distribution<double> noise(0, 0.04);
  for (double& value : cells.values.reshaped()) value += noise(random);
  return cells;
}

/// Without the mean: a sky that lies above its data costs more, so that noise lowers it everywhere.
double rms_error(const Cells& cells, const Fit& fit, const Shape& shape,
                 const Eigen::VectorXd& coefficients) {
  Eigen::VectorXd error =
      fit.shape.design(cells) * fit.coefficients.col(0) - shape.design(cells) * coefficients;
  error.array() -= error.mean();
  return std::sqrt(error.squaredNorm() / static_cast<double>(error.size()));
}

const Shape two_lights{1, {{1.1, 0.8, 0.6, 2.0}, {-1.4, -0.9, 0.8, 2.5}}};
const Eigen::VectorXd strengths{{50.0, 3.0, -2.0, 60.0, 40.0}};

TEST(Polish, FindsTheNumbersOfAGlowFromNearThem) {
  const Shape shape{1, {{1.1, 0.8, 0.6, 2.0}}};
  const Eigen::VectorXd coefficients{{50.0, 3.0, -2.0, 60.0}};
  const Cells cells = make_cells(shape, coefficients);
  const Fit fit = polish(cells, fit_shape(cells, {1, {{1.3, 0.7, 0.9, 2.5}}}), 4);
  ASSERT_EQ(fit.shape.glows.size(), 1U);
  // eight numbers from 672 cells of 0.04; twice what that comes to
  EXPECT_LT(rms_error(cells, fit, shape, coefficients), 2 * 0.04 * std::sqrt(8.0 / 672));
  EXPECT_NEAR(fit.shape.glows[0].x, 1.1, 0.02);
  EXPECT_NEAR(fit.shape.glows[0].y, 0.8, 0.02);
}

TEST(Polish, LeavesFitsWithoutGlowsAndWithoutScoreAlone) {
  const Cells cells = make_cells({1, {}}, Eigen::VectorXd{{50.0, 3.0, -2.0}});
  const Fit plane = fit_shape(cells, {1, {}});
  EXPECT_EQ(polish(cells, plane).coefficients, plane.coefficients);
  Fit none = fit_shape(cells, {1, {{1.1, 0.8, 0.6, 2.0}}});
  none.score = std::numeric_limits<double>::infinity();
  EXPECT_EQ(polish(cells, none).coefficients, none.coefficients);
}

TEST(GlowSearch, FindsTwoLightsThatNoSingleOneExplains) {
  const Cells cells = make_cells(two_lights, strengths);
  const Fit one = find_one_glow(cells, {}, 0);
  const Fit two = find_two_glows(cells, one, {}, 0);
  EXPECT_GT(one.score, 2 * two.score);
  // the valley of reach and falloff is flat: a tenth of a cell's noise
  EXPECT_LT(rms_error(cells, two, two_lights, strengths), 0.02);
}

TEST(GlowSearch, IsNotLedAstrayByObjectsOverAThirdOfTheCells) {
  Cells cells = make_cells(two_lights, strengths);
  for (Eigen::Index i = 0; i < cells.x.size(); ++i) {
    if ((i % 32 + i / 32) / 4 % 3 == 0) cells.values(i, 0) += 3;  // slanting bands
  }
  const Fit two = find_two_glows(cells, find_one_glow(cells, {}, 0), {}, 0);
  // objects of six tolerances hardly count
  EXPECT_LT(rms_error(cells, two, two_lights, strengths), 0.1);
}

TEST(GlowSearch, FindsTheSameWithAnyNumberOfThreads) {
  const Cells cells = make_cells(two_lights, strengths);
  EXPECT_EQ(find_one_glow(cells, {}, 1).coefficients, find_one_glow(cells, {}, 5).coefficients);
}

}  // namespace
}  // namespace limpid::background
