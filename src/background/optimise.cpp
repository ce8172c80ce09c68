#include "background/optimise.h"

#include <algorithm>
#include <cmath>

namespace limpid::background {
namespace {

/// First and second moments of one array of parameters.
class Adam {
 public:
  Adam(Eigen::Index rows, Eigen::Index columns)
      : first_(Eigen::ArrayXXd::Zero(rows, columns)),
        second_(first_) {}

  [[nodiscard]] Eigen::ArrayXXd step(const Eigen::ArrayXXd& gradient, double rate, int iteration) {
    constexpr double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7;
    first_ += (1 - beta1) * (gradient - first_);
    second_ += (1 - beta2) * (gradient.square() - second_);
    const double unbiased =
        rate * std::sqrt(1 - std::pow(beta2, iteration)) / (1 - std::pow(beta1, iteration));
    return unbiased * first_ / (second_.sqrt() + epsilon);
  }

 private:
  Eigen::ArrayXXd first_, second_;
};

}  // namespace

Descent descend(const Loss& loss, SplinePoints start, const AdamOptions& options,
                const std::function<void(int)>& tell) {
  constexpr double plateau_delta = 1e-4, stop_delta = 5e-5, lowest_rate = 1e-4;
  constexpr int plateau_patience = 50, stop_patience = 100;
  SplinePoints points = std::move(start);
  Descent result{points, std::numeric_limits<double>::infinity(), options.learning_rate, {}};
  Adam x(points.count(), 1), y(points.count(), 1), values(points.count(), points.channels());
  double plateau = result.objective, stop = result.objective;
  int since_plateau = 0, since_stop = 0;
  for (int iteration = 1; iteration <= options.iterations + 1; ++iteration) {
    if (tell) tell(iteration);
    const Spline spline(points);
    LossValue value = loss(points, spline.weights());
    const double objective = value.loss + options.complexity * spline.bending(options.reference);
    if (objective < result.objective) {
      result.points = points;
      result.objective = objective;
    }
    if (iteration > options.iterations) break;
    result.curve.push_back(static_cast<float>(objective));
    const auto waits = [objective](double& best, double delta, int& since) {
      since = objective < best - delta ? 0 : since + 1;
      if (since == 0) best = objective;
      return since;
    };
    if (options.settle) {
      constexpr double last_share = 0.01;
      const double done = static_cast<double>(iteration) / options.iterations;
      result.learning_rate = options.learning_rate * std::pow(last_share, done);
    } else if (waits(stop, stop_delta, since_stop) >= stop_patience) {
      break;
    } else if (waits(plateau, plateau_delta, since_plateau) >= plateau_patience) {
      since_plateau = 0;
      result.learning_rate =
          std::min(result.learning_rate, std::max(lowest_rate, result.learning_rate / 2));
    }
    const SplinePoints by =
        spline.gradient(std::move(value.gradient), options.complexity, options.reference);
    points.x -= x.step(by.x.array(), result.learning_rate, iteration).matrix();
    points.y -= y.step(by.y.array(), result.learning_rate, iteration).matrix();
    points.values -= values.step(by.values.array(), result.learning_rate, iteration).matrix();
  }
  return result;
}

}  // namespace limpid::background
