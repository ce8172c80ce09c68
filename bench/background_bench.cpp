// The background's fit against the plain way: the same loss by automatic differentiation, every
// pixel against every control point, as seed 003 has it.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <limpid/background.h>

#include "background/loss.h"
#include "background/optimise.h"
#include "background/sky_stretch.h"
#include "synthetic_sky.h"

namespace limpid {
namespace {

const synthetic::SkyFrame& scene(int width) {
  static std::map<int, synthetic::SkyFrame> made;
  const auto found = made.find(width);
  if (found != made.end()) return found->second;
  synthetic::SkySettings settings;
  settings.size = {width, width * 2 / 3};
  settings.gradient = synthetic::Gradient::mixture;
  return made.emplace(width, synthetic::make_sky(settings)).first->second;
}

/// Where both ways start: what fit_background begins with, not moved.
Background starting(int width) {
  BackgroundOptions options;
  options.max_iterations = 0;
  return fit_background(scene(width).frame.view(), options);
}

background::SplinePoints points_of(const Background& start, int width) {
  const auto n = static_cast<Eigen::Index>(start.points().size());
  background::SplinePoints points{Eigen::VectorXd(n), Eigen::VectorXd(n), Eigen::MatrixXd(n, 3), 2};
  for (Eigen::Index k = 0; k < n; ++k) {
    const ControlPoint& point = start.points()[static_cast<std::size_t>(k)];
    points.x[k] = (static_cast<double>(point.x) - 3.5) / width;
    points.y[k] = (static_cast<double>(point.y) - 3.5) / (width * 2 / 3);
    for (std::size_t c = 0; c < 3; ++c) {
      points.values(k, static_cast<Eigen::Index>(c)) =
          static_cast<double>(background::stretched(start.stretch()[c], point.values[c]));
    }
  }
  return points;
}

/// The source's layer: weights, affine part and places are what Adam moves.
class PlainSpline {
 public:
  PlainSpline(const Background& start, int width) {
    const Image& frame = start.fitted_frame();
    const background::SplinePoints points = points_of(start, width);
    const background::Spline spline(points);
    std::vector<float> places, pixels;
    for (int y = 0; y < frame.height(); ++y) {
      for (int x = 0; x < frame.width(); ++x) {
        if (!(start.fitted_mask().view()(0, y, x) > 0)) continue;
        places.push_back(static_cast<float>(x) / static_cast<float>(frame.width()));
        places.push_back(static_cast<float>(y) / static_cast<float>(frame.height()));
        for (int c = 0; c < 3; ++c) pixels.push_back(frame.view()(c, y, x));
      }
    }
    const auto count = static_cast<std::int64_t>(places.size() / 2);
    places_ = torch::tensor(places).reshape({count, 2});
    pixels_ = torch::tensor(pixels).reshape({count, 3});
    const auto n = points.count();
    train_ = torch::empty({n, 2});
    w_ = torch::empty({n, 3});
    v_ = torch::empty({3, 3});
    for (int k = 0; k < n; ++k) {
      train_[k][0] = points.x[k];
      train_[k][1] = points.y[k];
      for (int c = 0; c < 3; ++c) w_[k][c] = spline.weights().w(k, c);
    }
    for (int i = 0; i < 3; ++i) {
      for (int c = 0; c < 3; ++c) v_[i][c] = spline.weights().v(i, c);
    }
    for (auto* parameter : {&train_, &w_, &v_}) parameter->set_requires_grad(true);
  }

  [[nodiscard]] torch::Tensor loss() const {
    const auto square =
        (places_.unsqueeze(1) - train_.unsqueeze(0)).square().sum(2).clamp_min(1e-12);
    const auto phi = 0.5 * square * square.log();
    const auto ones = torch::ones({places_.size(0), 1});
    const auto b = phi.matmul(w_) + torch::cat({ones, places_}, 1).matmul(v_);
    const auto r = pixels_ - b;
    const auto inside = 0.001 + r.abs().mean(1) + r.var(1, false) +
                        5 * ((r.abs() - r).mean(1) + (b.abs() - b).mean(1));
    return inside.log().mean();
  }
  /// Lowest loss of so many iterations, with the source's settings.
  double descend(int iterations) {
    torch::optim::Adam adam({train_, w_, v_}, torch::optim::AdamOptions(0.001).eps(1e-7));
    double best = 1e9;
    for (int i = 0; i < iterations; ++i) {
      adam.zero_grad();
      const auto value = loss();
      best = std::min(best, value.item<double>());
      value.backward();
      adam.step();
    }
    return best;
  }

 private:
  torch::Tensor places_, pixels_, train_, w_, v_;
};

/// Iterations of the plain way; a whole fit has 1000.
void background_autodiff(benchmark::State& state) {
  const int width = static_cast<int>(state.range(0)), iterations = static_cast<int>(state.range(1));
  PlainSpline plain(starting(width), width);
  double best = 0;
  for (auto _ : state) best = plain.descend(iterations);
  state.counters["loss"] = best;
  state.counters["s_per_1000_iterations"] = benchmark::Counter(
      static_cast<double>(iterations) / 1000,
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(background_autodiff)
    ->Args({1200, 1000})
    ->Args({6000, 3})
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kSecond);

/// The same iterations over the same pixels by the hand-written gradient.
void background_analytic(benchmark::State& state) {
  const int width = static_cast<int>(state.range(0)), iterations = static_cast<int>(state.range(1));
  const Background start = starting(width);
  const background::Pixels pixels(start.fitted_frame().view(), start.fitted_mask().view(), 1);
  const background::Loss loss(pixels, 5, 0);
  const background::SplinePoints points = points_of(start, width);
  double best = 0;
  for (auto _ : state) best = background::descend(loss, points, {0.001, 0, iterations}).objective;
  state.counters["loss"] = best;
}
BENCHMARK(background_analytic)
    ->Args({1200, 1000})
    ->Args({6000, 30})
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kSecond);

/// All that the command does between reading and writing, defaults but for the complexity, which
/// the plain way does not have.
void background_fit(benchmark::State& state) {
  const Image& frame = scene(static_cast<int>(state.range(0))).frame;
  BackgroundOptions options;
  options.complexity = 0;
  double loss = 0;
  for (auto _ : state) {
    state.PauseTiming();
    Image copy = frame.clone();
    state.ResumeTiming();
    const Background background = fit_background(copy.view(), options);
    remove_background(copy.view(), background);
    loss = background.report().loss;
  }
  state.counters["loss"] = loss;
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(frame.size().pixels()));
}
BENCHMARK(background_fit)
    ->Arg(1200)
    ->Arg(6000)
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kSecond);

}  // namespace
}  // namespace limpid
