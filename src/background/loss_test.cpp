#include "background/loss.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "background/optimise.h"

namespace limpid::background {
namespace {

struct Problem {
  Image frame, mask;
  SplinePoints points;
};

/// A bent spline, in one corner below zero, and pixels on both sides of it, so that every branch of
/// the loss is taken. None is nearer than 0.03: at |r| = 0 the loss
/// has a kink, and beside it the derivative, 1 / (0.001 + |r|), magnifies single precision.
Problem make_problem(int channels, int order, int surfaces) {
  const Size size{160, 120};
  Problem problem{Image(channels, size), Image(1, size, 1), {}};
  std::mt19937 random(3);
  std::normal_distribution<float> noise(0, 0.03F);
  std::uniform_real_distribution<double> uniform(-1, 1);
  const int n = 12;
  problem.points = {Eigen::VectorXd(n), Eigen::VectorXd(n), Eigen::MatrixXd(n, surfaces), order};
  for (int k = 0; k < n; ++k) {
    // places as single precision holds them, so that both sides see the same points
    problem.points.x[k] =
        static_cast<double>(static_cast<float>((k % 4 + 0.1 * uniform(random)) / 3.0));
    problem.points.y[k] =
        static_cast<double>(static_cast<float>((k / 4 + 0.1 * uniform(random)) / 2.0));
    for (int s = 0; s < surfaces; ++s) {
      problem.points.values(k, s) = 0.4 * problem.points.x[k] * problem.points.y[k] - 0.03 +
                                    0.02 * s + 0.05 * uniform(random);
    }
  }
  const Spline spline(problem.points);
  for (int c = 0; c < channels; ++c) {
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        const float away = noise(random);
        problem.frame.view()(c, y, x) =
            static_cast<float>(spline.at(surfaces == 1 ? 0 : c, x / 160.0, y / 120.0)) + away +
            std::copysign(0.03F, away);
      }
    }
  }
  for (int x = 0; x < 15; ++x) problem.mask.view()(0, 7, x) = 0.1F * static_cast<float>(x);
  problem.frame.view()(0, 20, 20) = std::nanf("");
  return problem;
}

/// The loss as it is written in the header, in double precision, pixel by pixel.
double slow_loss(const Problem& p, const SplinePoints& points, double alpha, double complexity,
                 const Spline* reference) {
  const Spline spline(points);
  const int channels = p.frame.channels();
  double total = 0;
  int count = 0;
  for (int y = 0; y < p.frame.height(); ++y) {
    for (int x = 0; x < p.frame.width(); ++x) {
      const double m = static_cast<double>(p.mask.view()(0, y, x));
      bool missing = m <= 0;
      for (int c = 0; c < channels; ++c) missing = missing || std::isnan(p.frame.view()(c, y, x));
      if (missing) continue;
      const float u = static_cast<float>(x) / static_cast<float>(p.frame.width());
      const float v = static_cast<float>(y) / static_cast<float>(p.frame.height());
      std::vector<double> r, b;
      double mean = 0, absolute = 0, variance = 0, overshoot = 0, negative = 0;
      for (int c = 0; c < channels; ++c) {
        b.push_back(spline.at(points.channels() == 1 ? 0 : c, static_cast<double>(u),
                              static_cast<double>(v)));
        r.push_back(m * (static_cast<double>(p.frame.view()(c, y, x)) - b.back()));
        mean += r.back() / channels;
        absolute += std::abs(r.back()) / channels;
        overshoot += (std::abs(r.back()) - r.back()) / channels;
        negative += (std::abs(b.back()) - b.back()) / channels;
      }
      for (const double value : r) variance += (value - mean) * (value - mean) / channels;
      total += std::log(0.001 + absolute + variance + alpha * (overshoot + negative));
      ++count;
    }
  }
  return total / count + complexity * spline.bending(reference);
}

class LossOf : public testing::TestWithParam<std::array<int, 3>> {};

TEST_P(LossOf, AgreesWithTheFormulaAndItsFiniteDifferences) {
  const auto [channels, order, surfaces] = GetParam();
  const Problem p = make_problem(channels, order, surfaces);
  constexpr double alpha = 5, complexity = 0.03;
  const Pixels pixels(p.frame.view(), p.mask.view(), 1);
  const Spline spline(p.points);
  LossValue value = Loss(pixels, alpha, 1)(p.points, spline.weights());
  // bending is measured from a surface whose points lie elsewhere
  SplinePoints elsewhere = p.points;
  elsewhere.x *= 0.8;
  elsewhere.values *= 0.7;
  const Spline reference(elsewhere);
  EXPECT_NEAR(value.loss + complexity * spline.bending(&reference),
              slow_loss(p, p.points, alpha, complexity, &reference), 1e-6);

  const SplinePoints gradient = spline.gradient(value.gradient, complexity, &reference);
  const auto difference = [&](const auto& nudge) {
    constexpr double step = 1e-6;
    SplinePoints up = p.points, down = p.points;
    nudge(up, step);
    nudge(down, -step);
    return (slow_loss(p, up, alpha, complexity, &reference) -
            slow_loss(p, down, alpha, complexity, &reference)) /
           (2 * step);
  };
  double wrong = 0, length = 0;
  const auto compare = [&](double slope, double found) {
    wrong += (slope - found) * (slope - found);
    length += slope * slope;
  };
  for (int k = 0; k < p.points.count(); ++k) {
    compare(difference([k](SplinePoints& q, double h) { q.x[k] += h; }), gradient.x[k]);
    compare(difference([k](SplinePoints& q, double h) { q.y[k] += h; }), gradient.y[k]);
    for (int s = 0; s < surfaces; ++s) {
      compare(difference([k, s](SplinePoints& q, double h) { q.values(k, s) += h; }),
              gradient.values(k, s));
    }
  }
  EXPECT_LT(std::sqrt(wrong / length), 1e-6);
}
INSTANTIATE_TEST_SUITE_P(Shapes, LossOf,
                         testing::Values(std::array{1, 2, 1}, std::array{3, 2, 3},
                                         std::array{3, 3, 3}, std::array{3, 2, 1}));

TEST(Loss, IsTheSameToTheLastBitWithAnyNumberOfThreads) {
  Problem p = make_problem(3, 2, 3);
  // more pixels than one task takes
  p.frame = Image(3, {150, 120}, 0.2F);
  p.mask = Image(1, {150, 120}, 1);
  const Pixels pixels(p.frame.view(), p.mask.view(), 1);
  const Spline spline(p.points);
  const LossValue one = Loss(pixels, 5, 1)(p.points, spline.weights());
  const LossValue many = Loss(pixels, 5, 7)(p.points, spline.weights());
  EXPECT_EQ(one.loss, many.loss);
  EXPECT_EQ(one.gradient.w, many.gradient.w);
  EXPECT_EQ(one.gradient.x, many.gradient.x);
}

TEST(Pixels, LeavesOutWhatIsMaskedOrMissing) {
  const Problem p = make_problem(3, 2, 3);
  EXPECT_EQ(Pixels(p.frame.view(), p.mask.view(), 1).count(), 160U * 120U - 2U);
  EXPECT_EQ(Pixels(p.frame.view(), p.mask.view(), 4).count(), 40U * 30U);
}

TEST(Spline, BendsAwayFromAReferenceByTheEnergyOfTheDifference) {
  const SplinePoints points = make_problem(1, 2, 1).points;
  SplinePoints other = points, difference = points;
  for (int k = 0; k < other.count(); ++k) other.values(k, 0) = 0.2 * std::sin(3.0 * k);
  difference.values -= other.values;
  const Spline reference(other);
  EXPECT_NEAR(Spline(points).bending(&reference), Spline(difference).bending(), 1e-9);
  EXPECT_NEAR(reference.bending(&reference), 0, 1e-9);
}

TEST(Spline, GoesThroughItsPointsAndReproducesPlanes) {
  SplinePoints points = make_problem(1, 2, 1).points;
  points.values.col(0) = 0.3 + 0.2 * points.x.array() - 0.1 * points.y.array();
  const Spline plane(points);
  EXPECT_NEAR(plane.at(0, 0.4, 0.7), 0.3 + 0.08 - 0.07, 1e-12);
  EXPECT_NEAR(plane.bending(), 0, 1e-12);
  points.values(5, 0) += 0.1;
  const Spline bent(points);
  EXPECT_GT(bent.bending(), 0);
  // it misses a value by ridge times weight
  EXPECT_NEAR(bent.at(0, points.x[5], points.y[5]),
              points.values(5, 0) - spline_ridge * bent.weights().w(5, 0), 1e-9);
}

TEST(Descent, FallsAndKeepsTheBestPointsSeen) {
  const Problem p = make_problem(3, 2, 3);
  const Pixels pixels(p.frame.view(), p.mask.view(), 1);
  const Loss loss(pixels, 5, 1);
  const Descent descent = descend(loss, p.points, {0.01, 0, 200});
  const double reached = loss(descent.points, Spline(descent.points).weights()).loss;
  EXPECT_DOUBLE_EQ(reached, descent.objective);
  EXPECT_LE(descent.objective,
            static_cast<double>(*std::ranges::min_element(descent.curve)) + 1e-6);
  EXPECT_LT(descent.objective, static_cast<double>(descent.curve.front()) - 0.1);
}

}  // namespace
}  // namespace limpid::background
