#include "background/fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>

#include "background/loss.h"
#include "background/optimise.h"
#include "background/starts.h"
#include "core/statistics.h"

namespace limpid::background {
namespace {

/// Sets of pixels from coarse to all: the first thousands tell nearly everything about a smooth
/// surface, at a sixteenth of the cost; the last say that it is right. All but the last leave out
/// the pixels with odd x + y, which then judge what was found.
std::vector<Pixels> make_stages(const Scene& scene) {
  constexpr std::size_t enough = 10000;
  std::vector<Pixels> stages;
  for (const int step : {4, 2}) {
    Pixels pixels(scene.stretched.view(), scene.mask.view(), step);
    if (pixels.count() >= enough) stages.push_back(std::move(pixels));
  }
  if (stages.empty()) {
    Image half = scene.mask.clone();
    for (int y = 0; y < half.height(); ++y) {
      for (int x = 1 - y % 2; x < half.width(); x += 2) half.view()(0, y, x) = 0;
    }
    stages.emplace_back(scene.stretched.view(), half.view(), 1);
  }
  stages.emplace_back(scene.stretched.view(), scene.mask.view(), 1);
  return stages;
}

/// A sky in linear units at a pixel of the small frame.
using Sky = std::function<float(int channel, int x, int y)>;

Sky sky_of(const Scene& scene, const SplinePoints& points) {
  const auto spline = std::make_shared<Spline>(points);
  const bool linked = points.channels() == 1;
  return [&scene, spline, linked](int c, int x, int y) {
    const Size size = scene.linear.size();
    const double value = spline->at(linked ? 0 : c, static_cast<double>(x) / size.width,
                                    static_cast<double>(y) / size.height);
    return unstretched(scene.stretch[static_cast<std::size_t>(c)], static_cast<float>(value));
  };
}

/// What two skies leave of the pixels with odd x + y, which the descent has not seen, judged by
/// Geman and McClure's cost; a constant is of no account, for the frame keeps its level. Whether
/// `fitted` costs less by `clear` standard errors, from the scatter of the sums over a grid of
/// fields: neighbouring pixels err alike.
bool explains_more(const Scene& scene, const Sky& start, const Sky& fitted, double clear) {
  constexpr int fields = 8;
  constexpr double wide = 3;
  const Size size = scene.linear.size();
  std::vector<double> gain(fields * fields, 0), weight(gain.size(), 0);
  const int step =
      std::max(1, static_cast<int>(std::sqrt(static_cast<double>(size.pixels()) / 40000)));
  for (int c = 0; c < scene.linear.channels(); ++c) {
    const auto at = static_cast<std::size_t>(c);
    std::array<std::vector<float>, 2> left;
    std::vector<std::size_t> field;
    for (int row = 0; row < size.height; row += step) {
      for (int column = 0; column < size.width; column += step) {
        const int x = column, y = std::min(size.height - 1, row + (row + column + 1) % 2);
        const float pixel = scene.linear.view()(c, y, x);
        if ((x + y) % 2 == 0 || !(scene.mask.view()(0, y, x) > 0)) continue;
        left[0].push_back((pixel - start(c, x, y)) / scene.noise[at]);
        left[1].push_back((pixel - fitted(c, x, y)) / scene.noise[at]);
        field.push_back(
            static_cast<std::size_t>(y * fields / size.height * fields + x * fields / size.width));
      }
    }
    if (field.empty()) continue;
    const std::array spreads{robust_spread(left[0]), robust_spread(left[1])};
    const float scale = static_cast<float>(wide) * std::min(spreads[0].sigma, spreads[1].sigma);
    if (!(scale > 0)) continue;
    const auto cost = [&](std::size_t which, std::size_t i) {
      const double u = static_cast<double>((left[which][i] - spreads[which].median) / scale);
      return u * u / (1 + u * u);
    };
    for (std::size_t i = 0; i < field.size(); ++i) {
      gain[field[i]] += cost(0, i) - cost(1, i);
      weight[field[i]] += 1;
    }
  }
  double sum = 0, squares = 0, count = 0;
  for (std::size_t i = 0; i < gain.size(); ++i) {
    sum += gain[i];
    squares += gain[i] * gain[i];
    count += weight[i] > 0 ? 1 : 0;
  }
  if (count < 2) return false;
  const double variance = (squares - sum * sum / count) * count / (count - 1);
  return sum > clear * std::sqrt(std::max(0.0, variance));
}

}  // namespace

Fitted optimise(const Scene& scene, const BackgroundOptions& options, const Progress& progress) {
  const std::vector<Pixels> stages = make_stages(scene);
  const auto loss_of = [&](const Pixels& pixels) {
    return Loss(pixels, options.alpha, options.threads);
  };
  const bool given = !options.points.empty();
  // a sky that is not seen must not be bent towards what is
  const int most_iterations =
      scene.hidden && options.robust_start && !given ? 0 : options.max_iterations;
  // a bare sky has nothing that could lead a bent spline astray
  const double complexity = (scene.bare ? 0.01 : 1) * static_cast<double>(options.complexity);
  const AdamOptions base{static_cast<double>(options.learning_rate), complexity, most_iterations};
  const auto told = [&](double from, double to, int iterations) {
    return [&progress, from, to, iterations](int iteration) {
      progress.throw_if_stopped();
      if (iteration % 10 == 0) {
        progress(from + (to - from) * std::min(1.0, static_cast<double>(iteration) / iterations),
                 "fitting the sky");
      }
    };
  };
  Fitted fitted;
  Descent best;
  std::optional<SplinePoints> first;
  // The start has seen all pixels, so that it must beat a constant by more.
  constexpr double clear_of_flat = 4;
  // on a bare sky the better one counts
  const double clear = scene.bare ? 0 : 2;
  const int starts = given || most_iterations == 0 ? 1 : std::max(1, options.starts);
  AdamOptions trial = base;
  // with one start there is nothing to choose between
  trial.iterations = starts > 1 ? most_iterations / 10 : 0;
  for (int index = 0; index < starts; ++index) {
    SplinePoints start = given ? from_user(scene, options) : lay_out(scene, options, index);
    // Pixels as starting values are no sky to stay close to.
    std::optional<Spline> reference;
    if (given || options.robust_start) reference.emplace(start);
    if (!given && options.robust_start && index == 0) first = start;
    trial.reference = reference ? &*reference : nullptr;
    Descent descent = descend(
        loss_of(stages.front()), std::move(start), trial,
        told(0.2 * index / starts, 0.2 * (index + 1) / starts, std::max(1, trial.iterations)));
    if (index == 0 || descent.objective < best.objective) {
      best = std::move(descent);
      fitted.reference = std::move(reference);
      fitted.start = index;
    }
  }
  fitted.points = std::move(best.points);
  fitted.curve = std::move(best.curve);
  // linked channels have but one surface
  const bool exact = first && options.validate && !options.link_channels;
  const Sky start_sky =
      exact ? Sky([&scene](int c, int x, int y) { return scene.start.view()(c, y, x); })
            : sky_of(scene, first ? *first : fitted.points);
  // Shares of the iterations for two or three stages.
  const std::vector<double> shares =
      stages.size() == 3 ? std::vector{0.5, 0.3, 0.2} : std::vector{0.4, 0.6};
  const double settling = stages.size() == 3 ? 1 : 2;
  const int iterations = most_iterations - trial.iterations;
  double done = 0.2;
  AdamOptions stage = base;
  stage.reference = fitted.reference ? &*fitted.reference : nullptr;
  for (std::size_t i = 0; i < stages.size() && iterations > 0; ++i) {
    const bool judged = first && options.validate && i > 0;
    // before the costly stages only what is clearly worse gives up; before the last one must be
    // clearly better
    if (judged && (i + 1 == stages.size()
                       ? !explains_more(scene, start_sky, sky_of(scene, fitted.points), clear)
                       : explains_more(scene, sky_of(scene, fitted.points), start_sky, clear))) {
      fitted.points = *first;
      fitted.reference.emplace(*first);
      fitted.start = 0;
      fitted.start_kept = true;
      break;
    }
    stage.iterations = static_cast<int>(std::lround(shares[i] * iterations));
    const auto tell = told(done, done + 0.8 * shares[i], std::max(1, stage.iterations));
    stage.settle = i + 1 == stages.size();
    // a fresh, higher rate that then falls: the lowest losses of what was tried (0.5, 1, 2)
    if (stage.settle) stage.learning_rate = settling * base.learning_rate;
    Descent descent = descend(loss_of(stages[i]), fitted.points, stage, tell);
    done += 0.8 * shares[i];
    stage.learning_rate = descent.learning_rate;
    fitted.points = std::move(descent.points);
    fitted.curve.insert(fitted.curve.end(), descent.curve.begin(), descent.curve.end());
  }
  fitted.exact = exact && (fitted.start_kept || most_iterations == 0);
  if (first && options.validate && !scene.hidden) {
    SplinePoints flat = *first;
    flat.values.rowwise() = first->values.colwise().mean();
    fitted.flat =
        !explains_more(scene, sky_of(scene, flat),
                       fitted.exact ? start_sky : sky_of(scene, fitted.points), clear_of_flat);
    if (fitted.flat) {
      fitted.points = std::move(flat);
      fitted.exact = false;
    }
  }
  return fitted;
}

}  // namespace limpid::background
