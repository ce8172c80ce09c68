#include <limpid/background.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "background/correction.h"
#include "background/fit.h"
#include "background/lattice.h"
#include "background/loss.h"
#include "background/scene.h"
#include "background/spline.h"
#include "background/starts.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/statistics.h"

namespace limpid {
namespace {

using namespace background;

constexpr int smallest_side_px = 16;

void check(ConstView frame, const BackgroundOptions& options) {
  const auto usage = [](const std::string& text) { return Error(ErrorKind::usage, text); };
  if (frame.channels() != 1 && frame.channels() != 3) {
    throw Error(ErrorKind::bad_input, "a background is modelled for 1 or 3 channels");
  }
  if (std::min(frame.width(), frame.height()) < smallest_side_px) {
    throw Error(ErrorKind::bad_input, "smaller than " + std::to_string(smallest_side_px) +
                                          " pixels: too small to tell sky from objects");
  }
  if (options.control_points < 4 || options.control_points > 400) {
    throw usage("control points: 4 to 400");
  }
  if (options.order != 2 && options.order != 3) throw usage("order of the spline: 2 or 3");
  if (options.downscale < 1 || options.downscale > 64) throw usage("downscale: 1 to 64");
  if (!(options.stretch_quantile > 0 && options.stretch_quantile <= 1)) {
    throw usage("stretch quantile: above 0, at most 1");
  }
  if (!options.mask.empty() && options.mask.size() != frame.size()) {
    throw usage("the mask has " + std::to_string(options.mask.width()) + " x " +
                std::to_string(options.mask.height()) + " pixels, the frame " +
                std::to_string(frame.width()) + " x " + std::to_string(frame.height()));
  }
  for (const ControlPoint& point : options.points) {
    if (point.values.size() > 1 && static_cast<int>(point.values.size()) != frame.channels()) {
      throw usage("control points have " + std::to_string(point.values.size()) +
                  " values, the frame " + std::to_string(frame.channels()) + " channels");
    }
  }
  if (!options.correction.empty()) {
    const ConstView given = options.correction;
    if (given.channels() != 1 && given.channels() != frame.channels()) {
      throw usage("the correction has " + std::to_string(given.channels()) +
                  " channels, the frame " + std::to_string(frame.channels()));
    }
    if (std::min(given.width(), given.height()) < 3) {
      throw usage("a correction needs at least 3 x 3 values");
    }
  }
  if (!options.points.empty() && (options.points.size() < 4 || options.points.size() > 400)) {
    throw usage("a spline takes 4 to 400 control points");
  }
}

/// Median of the model's nodes inside the frame.
float model_median(const Image& nodes, int channel) {
  std::vector<float> values;
  for (int v = 1; v < nodes.height() - 2; ++v) {
    for (int u = 1; u < nodes.width() - 2; ++u) values.push_back(nodes.view()(channel, v, u));
  }
  return median_in_place(values);
}

/// Their spline, and what is added to it.
SkyAt sky_of_points(const Scene& scene, Size frame, const SplinePoints& points,
                    const Correction* correction) {
  const auto spline = std::make_shared<Spline>(points);
  const Places places(scene.factor, scene.linear.size());
  return [=, &scene, linked = points.channels() == 1](double x, double y, std::span<float> values) {
    for (std::size_t c = 0; c < values.size(); ++c) {
      const double value = spline->at(linked ? 0 : static_cast<int>(c), places.u(x), places.v(y));
      values[c] = unstretched(scene.stretch[c], static_cast<float>(value));
    }
    if (correction != nullptr)
      correction->add(x / (frame.width - 1), y / (frame.height - 1), values);
  };
}

/// What the sky of the scene is beyond a spline that approaches it.
Image correct_to(const Scene& scene, Size frame, const SkyAt& spline_at) {
  const Places places(scene.factor, scene.linear.size());
  const auto missing = [&](double x, double y, std::span<float> values) {
    std::vector<float> near(values.size());
    spline_at(x, y, near);
    scene.sky.at(places.u(x) + 0.5 / scene.linear.width(),
                 places.v(y) + 0.5 / scene.linear.height(), values);
    std::ranges::transform(values, near, values.begin(), std::minus<>());
  };
  return make_correction(scene.linear.channels(), frame, missing);
}

/// The given correction, less what it says around points that were taken away: there the spline
/// goes from the nearest point that is left.
Image kept_correction(Size frame, const BackgroundOptions& options) {
  std::vector<Gap> gaps;
  for (const ControlPoint& removed : options.removed_points) {
    float nearest = std::numeric_limits<float>::max();
    for (const ControlPoint& point : options.points)
      nearest = std::min(nearest, std::hypot(point.x - removed.x, point.y - removed.y));
    gaps.push_back({removed.x, removed.y, nearest});
  }
  Image values = copy(options.correction);
  fade(values.view(), frame, gaps);
  return values;
}

/// Points without values among others take the sky around them as these see it, without what the
/// correction adds there.
std::vector<ControlPoint> with_values_like_others(const Scene& scene, Size frame,
                                                  const BackgroundOptions& options,
                                                  const Correction* correction) {
  BackgroundOptions others = options;
  std::erase_if(others.points, [](const ControlPoint& point) { return point.values.empty(); });
  if (others.points.size() == options.points.size()) return options.points;
  constexpr std::size_t fewest = 4;  // of a spline
  if (others.points.size() < fewest) return with_values(scene, options);
  std::vector<ControlPoint> points = with_values(
      scene, options, sky_of_points(scene, frame, from_user(scene, others), correction));
  if (correction == nullptr) return points;
  const auto share = [](float at, int length) {
    return std::clamp(static_cast<double>(at) / (length - 1), 0.0, 1.0);
  };
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!options.points[i].values.empty()) continue;
    std::vector<float> beyond(points[i].values.size(), 0);
    correction->add(share(points[i].x, frame.width), share(points[i].y, frame.height), beyond);
    std::ranges::transform(points[i].values, beyond, points[i].values.begin(), std::minus<>());
  }
  return points;
}

}  // namespace

struct BackgroundFitter::Body {
  ConstView frame;
  SceneMaker scenes{frame};
};

BackgroundFitter::BackgroundFitter(ConstView frame) : body_(std::make_unique<Body>(frame)) {}
BackgroundFitter::BackgroundFitter(BackgroundFitter&&) noexcept = default;
BackgroundFitter& BackgroundFitter::operator=(BackgroundFitter&&) noexcept = default;
BackgroundFitter::~BackgroundFitter() = default;

Background fit_background(ConstView frame, const BackgroundOptions& options,
                          const Progress& progress) {
  return BackgroundFitter(frame).fit(options, progress);
}

Background BackgroundFitter::fit(const BackgroundOptions& options, const Progress& progress) {
  const ConstView frame = body_->frame;
  const auto begin = std::chrono::steady_clock::now();
  check(frame, options);
  Background result;
  result.size_ = frame.size();
  result.order_ = options.order;
  BackgroundReport& report = result.report_;
  progress(0, "reading the sky");
  Scene scene = body_->scenes.prepare(options, report.notes);
  progress.throw_if_stopped();
  report.sky_hidden = scene.hidden;
  if (scene.hidden) {
    report.notes.push_back(
        "sky and nebula cannot be told apart in this frame: at most a plane under its darkest "
        "parts "
        "is taken out; mark the sky with --mask for more");
  }
  BackgroundOptions known = options;
  std::optional<Correction> correction;
  if (!options.points.empty() && !options.correction.empty() && options.max_iterations == 0) {
    result.correction_ = kept_correction(frame.size(), options);
    correction.emplace(result.correction_.view());
  }
  known.points =
      with_values_like_others(scene, frame.size(), options, correction ? &*correction : nullptr);
  Fitted fitted = optimise(scene, known, progress.part(0.3, 0.9));

  const Spline spline(fitted.points);
  const Pixels all(scene.stretched.view(), scene.mask.view(), 1);
  report.loss = Loss(all, options.alpha, options.threads)(fitted.points, spline.weights()).loss;
  report.bending = spline.bending(fitted.reference ? &*fitted.reference : nullptr);
  report.curve = std::move(fitted.curve);
  report.start_loss =
      report.curve.empty() ? report.loss : static_cast<double>(report.curve.front());
  report.iterations = static_cast<int>(report.curve.size());
  report.start = fitted.start;
  report.start_kept = fitted.start_kept;
  if (fitted.flat) report.notes.push_back("no gradient stands out of the noise: none is taken out");
  report.downscale = scene.factor;
  report.masked_share = scene.masked_share;
  report.missing_share = scene.missing_share;
  report.noise = scene.noise;

  if (fitted.exact) {
    result.correction_ =
        correct_to(scene, frame.size(), sky_of_points(scene, frame.size(), fitted.points, nullptr));
    correction.emplace(result.correction_.view());
  }
  const SkyAt at =
      sky_of_points(scene, frame.size(), fitted.points, correction ? &*correction : nullptr);
  result.nodes_ = make_nodes(frame.channels(), frame.size(), at, options.threads);
  for (int c = 0; c < frame.channels(); ++c) {
    report.level.push_back(model_median(result.nodes_, c));
    const auto [low, high] = std::ranges::minmax(
        result.nodes_.pixels().subspan(static_cast<std::size_t>(c) * result.nodes_.size().pixels(),
                                       result.nodes_.size().pixels()));
    report.range.push_back(high - low);
  }
  // points that were used as they are stay so to the last bit: saved, they give the same model
  const bool kept = !known.points.empty() && report.iterations == 0;
  if (kept) result.points_ = std::move(known.points);
  const Places places(scene.factor, scene.linear.size());
  const bool linked = fitted.points.channels() == 1;
  for (int k = 0; k < (kept ? 0 : fitted.points.count()); ++k) {
    ControlPoint point{places.x(fitted.points.x[k]), places.y(fitted.points.y[k]), {}};
    for (int c = 0; c < frame.channels(); ++c) {
      point.values.push_back(
          unstretched(scene.stretch[static_cast<std::size_t>(c)],
                      static_cast<float>(fitted.points.values(k, linked ? 0 : c))));
    }
    result.points_.push_back(std::move(point));
  }
  result.stretch_ = std::move(scene.stretch);
  result.small_ = std::move(scene.stretched);
  result.small_mask_ = std::move(scene.mask);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  progress(1, "sky fitted");
  return result;
}

}  // namespace limpid
