#include <limpid/background.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include <gtest/gtest.h>

#include "background/lattice.h"
#include "background/loss.h"
#include "background/optimise.h"
#include "background/sky_stretch.h"
#include "core/statistics.h"
#include "synthetic_sky.h"

namespace limpid {
namespace {

using synthetic::Gradient;
using synthetic::Object;

synthetic::SkySettings settings(Gradient gradient, Object object, float strength) {
  synthetic::SkySettings s;
  s.size = {720, 480};
  s.stars = 200;
  s.gradient = gradient;
  s.object = object;
  s.gradient_sigma = strength;
  return s;
}

/// Model minus true sky without its median where no object is, in units of the noise.
std::vector<float> errors(const synthetic::SkyFrame& truth, const Image& model, float sigma) {
  std::vector<float> all;
  const std::size_t plane = model.size().pixels();
  for (int c = 0; c < model.channels(); ++c) {
    std::vector<float> channel(plane), outside;
    for (std::size_t i = 0; i < plane; ++i) {
      const std::size_t at = static_cast<std::size_t>(c) * plane + i;
      channel[i] = (model.pixels()[at] - truth.sky.pixels()[at]) / sigma;
      if (truth.object.pixels()[at] == 0) outside.push_back(channel[i]);
    }
    const float offset = median_in_place(outside);
    for (const float value : channel) all.push_back(value - offset);
  }
  return all;
}

double rms(const std::vector<float>& values) {
  double squares = 0;
  for (const float value : values)
    squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

ConstView upside_down(ConstView view) {
  return {view.data() + (view.height() - 1) * view.row_stride(), view.channels(), view.size(),
          -view.row_stride(), view.channel_stride()};
}

ErrorKind kind_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.kind();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorKind::failed;
}

TEST(Background, FindsPlanesAndDomesToLessThanASigma) {
  for (const Gradient gradient : {Gradient::plane, Gradient::dome}) {
    const auto s = settings(gradient, Object::none, 20);
    const auto truth = synthetic::make_sky(s);
    EXPECT_LT(rms(errors(truth, fit_background(truth.frame.view()).render(), s.sigma)), 1)
        << static_cast<int>(gradient);
  }
}

TEST(Background, FindsBareCurvedSkiesToAFewHundredthsOfASigma) {
  for (const Gradient gradient : {Gradient::dome, Gradient::moon, Gradient::mixture}) {
    const auto s = settings(gradient, Object::none, 20);
    const auto truth = synthetic::make_sky(s);
    // twenty numbers from the medians of 200,000 pixels: 1.25 sqrt(20 / 200000) = 0.013; twice that
    EXPECT_LT(rms(errors(truth, fit_background(truth.frame.view()).render(), s.sigma)), 0.026)
        << static_cast<int>(gradient);
  }
}

TEST(Background, ChangesAFlatFrameByLessThanAThirdOfTheNoise) {
  for (const Size size : {Size{20, 20}, Size{33, 60}, Size{400, 300}, Size{720, 480}}) {
    for (const std::uint32_t seed : {1U, 2U, 3U}) {
      auto s = settings(Gradient::none, Object::none, 0);
      s.size = size;
      s.seed = seed;
      s.stars = size.width / 4;
      const auto truth = synthetic::make_sky(s);
      const Background sky = fit_background(truth.frame.view());
      EXPECT_LT(std::ranges::max(sky.report().range), 0.3F * s.sigma)
          << size.width << " seed " << seed;
    }
  }
}

TEST(Background, KeepsAGalaxyThatFillsTheFrameAndSaysSo) {
  // a disc with ragged arms that reaches all edges, 100 sigma in its middle
  auto s = settings(Gradient::plane, Object::none, 60);
  for (const float strength : {0.0F, 60.0F}) {
    s.gradient_sigma = strength;
    if (strength == 0) s.gradient = Gradient::none;
    auto truth = synthetic::make_sky(s);
    for (int y = 0; y < s.size.height; ++y) {
      for (int x = 0; x < s.size.width; ++x) {
        const auto u = static_cast<float>(x), v = static_cast<float>(y);
        const float r = std::hypot((u - 350) / 720, (v - 250) / 480);
        const float ragged = std::pow(synthetic::turbulence(u, v, 120, 5), 2.0F);
        const float galaxy = 300 * s.sigma * ragged * std::exp(-3 * r);
        for (int c = 0; c < 3; ++c) {
          truth.frame.view()(c, y, x) += galaxy;
          truth.object.view()(c, y, x) = galaxy;
        }
      }
    }
    const Background sky = fit_background(truth.frame.view());
    EXPECT_TRUE(sky.report().sky_hidden);
    ASSERT_FALSE(sky.report().notes.empty());
    EXPECT_NE(sky.report().notes.back().find("cannot be told apart"), std::string::npos);
    // who leaves out most of the frame says where the sky is
    Image mask(1, s.size);
    for (int y = 0; y < s.size.height; ++y)
      std::ranges::fill(mask.view().row(0, y).first(250), 1.0F);
    EXPECT_FALSE(fit_background(truth.frame.view(), {.mask = mask.view()}).report().sky_hidden);
    const Image model = sky.render();
    const auto [low, high] = std::ranges::minmax(model.view().row(1, 250));
    // a tenth of the galaxy's height at most is taken for a slope
    EXPECT_NEAR(high - low, strength == 0 ? 0 : s.sigma * 60 * 0.6F, 10 * s.sigma);
    s.gradient = Gradient::plane;
  }
}

TEST(Background, KeepsTheStartUnlessLeftOutPixelsAskForMore) {
  // a start of two glows and a parabola cannot follow a steep mixture, but finds a plane exactly
  const auto plane = synthetic::make_sky(settings(Gradient::plane, Object::none, 20));
  const Background kept = fit_background(plane.frame.view());
  EXPECT_TRUE(kept.report().start_kept);
  // measured 0.004 to 0.006; the descent's own noise is 0.02
  EXPECT_LT(rms(errors(plane, kept.render(), 0.001F)), 0.012);
  BackgroundOptions options;
  options.validate = false;
  EXPECT_FALSE(fit_background(plane.frame.view(), options).report().start_kept);
}

TEST(Background, KeepsFaintCirrus) {
  for (const Gradient gradient : {Gradient::plane, Gradient::dome}) {
    auto s = settings(gradient, Object::cirrus, 20);
    s.size = {1200, 800};
    const auto truth = synthetic::make_sky(s);
    const auto wrong = errors(truth, fit_background(truth.frame.view()).render(), s.sigma);
    double eaten = 0, light = 0;
    for (std::size_t i = 0; i < wrong.size(); ++i) {
      const float object = truth.object.pixels()[i] / s.sigma;
      light += static_cast<double>(object);
      if (object > 0) eaten += static_cast<double>(wrong[i]);
    }
    EXPECT_GT(1 - eaten / light, 0.9) << static_cast<int>(gradient);
    EXPECT_LT(1 - eaten / light, 1.1) << static_cast<int>(gradient);
  }
}

TEST(Background, IsTheSameToTheLastBitWithAnyNumberOfThreads) {
  const auto truth = synthetic::make_sky(settings(Gradient::mixture, Object::nebula, 20));
  BackgroundOptions options;
  options.max_iterations = 60;
  options.threads = 1;
  const Image one = fit_background(truth.frame.view(), options).render(1);
  options.threads = 5;
  const Image five = fit_background(truth.frame.view(), options).render(5);
  EXPECT_TRUE(std::ranges::equal(one.pixels(), five.pixels()));
}

TEST(Background, EndsNoWorseThanPlainAdamFromTheSameStart) {
  for (const auto& [gradient, object] :
       {std::pair{Gradient::mixture, Object::none}, std::pair{Gradient::moon, Object::nebula},
        std::pair{Gradient::plane, Object::cirrus}}) {
    const auto truth = synthetic::make_sky(settings(gradient, object, 40));
    BackgroundOptions options;
    options.validate = false;  // which would keep the start where that is nearer to the sky
    const Background quick = fit_background(truth.frame.view(), options);
    // The same start and stretched pixels, all of them in every one of 1000 iterations.
    options.max_iterations = 0;
    const Background start = fit_background(truth.frame.view(), options);
    const background::Pixels pixels(start.fitted_frame().view(), start.fitted_mask().view(), 1);
    const background::Loss loss(pixels, options.alpha, 0);
    background::SplinePoints points{Eigen::VectorXd(36), Eigen::VectorXd(36),
                                    Eigen::MatrixXd(36, 3), 2};
    for (int k = 0; k < 36; ++k) {
      const ControlPoint& point = start.points()[static_cast<std::size_t>(k)];
      points.x[k] = (static_cast<double>(point.x) - 3.5) / 720;
      points.y[k] = (static_cast<double>(point.y) - 3.5) / 480;
      for (int c = 0; c < 3; ++c) {
        const auto at = static_cast<std::size_t>(c);
        points.values(k, c) =
            static_cast<double>(background::stretched_open(start.stretch()[at], point.values[at]));
      }
    }
    const background::Spline reference(points);
    const double complexity = static_cast<double>(options.complexity);
    const background::Descent plain =
        background::descend(loss, points, {0.001, complexity, 1000, &reference});
    const double found = quick.report().loss + complexity * quick.report().bending;
    // losses are single precision inside: seven digits
    EXPECT_LE(found, plain.objective + 1e-6 * std::abs(plain.objective));
  }
}

TEST(Background, PointsSavedAndUsedAgainGiveTheSameModel) {
  const auto s = settings(Gradient::dome, Object::none, 20);
  const auto truth = synthetic::make_sky(s);
  BackgroundOptions options;
  options.max_iterations = 100;
  const Background first = fit_background(truth.frame.view(), options);
  options.points = first.points();
  options.correction = first.correction().view();
  options.max_iterations = 0;
  const Image again = fit_background(truth.frame.view(), options).render(), before = first.render();
  for (std::size_t i = 0; i < again.pixels().size(); i += 97) {
    // a pixel's place in single precision, 1e-7 of the frame, times the steepest slope
    ASSERT_NEAR(again.pixels()[i], before.pixels()[i], 0.02F * s.sigma);
  }
}

TEST(Background, PointsWithoutValuesTakeTheSkyAroundThem) {
  const auto s = settings(Gradient::plane, Object::nebula, 20);
  const auto truth = synthetic::make_sky(s);
  BackgroundOptions options;
  options.max_iterations = 0;
  for (const float y : {30.0F, 240.0F, 450.0F}) {
    for (const float x : {30.0F, 620.0F, 690.0F}) options.points.push_back({x, y, {}});
  }
  const Background sky = fit_background(truth.frame.view(), options);
  ASSERT_EQ(sky.points().size(), options.points.size());
  for (const ControlPoint& point : sky.points()) {
    ASSERT_EQ(point.values.size(), 3U);
    for (int c = 0; c < 3; ++c) {
      const float there = truth.sky.view()(c, static_cast<int>(point.y), static_cast<int>(point.x));
      // half a sigma: faint stars lift the median of a small frame's pixels by a part of it
      EXPECT_NEAR(point.values[static_cast<std::size_t>(c)], there, 0.5F * s.sigma);
    }
  }
  // used again they are the same to the last bit, and so is the model
  options.points = sky.points();
  const Background again = fit_background(truth.frame.view(), options);
  const Image one = sky.render(), other = again.render();
  EXPECT_TRUE(std::ranges::equal(one.pixels(), other.pixels()));
  for (std::size_t i = 0; i < options.points.size(); ++i) {
    EXPECT_EQ(again.points()[i].x, options.points[i].x);
    EXPECT_EQ(again.points()[i].values, options.points[i].values);
  }
}

TEST(Background, PointsUnderAMaskTakeTheNearestSkyThatIsSeen) {
  const auto s = settings(Gradient::none, Object::none, 0);
  auto truth = synthetic::make_sky(s);
  Image mask(1, s.size, 1);
  for (int y = 100; y < 380; ++y) {
    for (int x = 200; x < 520; ++x) {
      mask.view()(0, y, x) = 0;
      for (int c = 0; c < 3; ++c) truth.frame.view()(c, y, x) += 0.3F;
    }
  }
  BackgroundOptions options;
  options.max_iterations = 0;
  options.mask = mask.view();
  options.points = {{360, 240, {}}, {20, 20, {}}, {700, 20, {}}, {20, 460, {}}, {700, 460, {}}};
  const Background sky = fit_background(truth.frame.view(), options);
  for (const ControlPoint& point : sky.points())
    EXPECT_NEAR(point.values[0], s.level, 0.5F * s.sigma) << point.x;
}

TEST(Background, APointThatIsMovedByHandMovesTheModelThere) {
  const auto s = settings(Gradient::dome, Object::none, 20);
  const auto truth = synthetic::make_sky(s);
  const Background first = fit_background(truth.frame.view());
  EXPECT_FALSE(first.correction().view().empty());
  BackgroundOptions options;
  options.points = first.points();
  options.correction = first.correction().view();
  options.max_iterations = 0;
  ControlPoint* middle = nullptr;
  for (ControlPoint& point : options.points) {
    const bool inside = point.x > 250 && point.x < 470 && point.y > 150 && point.y < 330;
    if (inside && middle == nullptr) middle = &point;
  }
  ASSERT_NE(middle, nullptr);
  for (float& value : middle->values) value += 10 * s.sigma;
  const auto x = static_cast<int>(middle->x), y = static_cast<int>(middle->y);
  const Image before = first.render(), after = fit_background(truth.frame.view(), options).render();
  // the ridge of the spline keeps it a few per cent below its points
  EXPECT_NEAR(after.view()(1, y, x) - before.view()(1, y, x), 10 * s.sigma, s.sigma);
  // and a correction of another frame's channels is refused
  const Image two(2, {5, 5});
  options.correction = two.view();
  EXPECT_EQ(kind_of([&] { fit_background(truth.frame.view(), options); }), ErrorKind::usage);
  const Image narrow(3, {5, 2});
  options.correction = narrow.view();
  EXPECT_EQ(kind_of([&] { fit_background(truth.frame.view(), options); }), ErrorKind::usage);
}

/// Options that use a model's points as they are; and the one of them that is nearest to the
/// middle.
std::pair<BackgroundOptions, std::size_t> by_hand(const Background& sky) {
  BackgroundOptions options;
  options.points = sky.points();
  options.correction = sky.correction().view();
  options.max_iterations = 0;
  const auto away = [&sky](const ControlPoint& point) {
    return std::hypot(2 * point.x - static_cast<float>(sky.size().width),
                      2 * point.y - static_cast<float>(sky.size().height));
  };
  const auto middle = std::ranges::min_element(options.points, {}, away);
  return {options, static_cast<std::size_t>(middle - options.points.begin())};
}

TEST(Background, APointThatIsMovedLeavesTheSkyElsewhereAsItWas) {
  const auto s = settings(Gradient::moon, Object::none, 60);
  const auto truth = synthetic::make_sky(s);
  // nine points are too few for this sky: the correction has what they miss
  const Background first = fit_background(truth.frame.view(), {.control_points = 9});
  ASSERT_FALSE(first.correction().view().empty());
  auto [options, middle] = by_hand(first);
  const ControlPoint old = options.points[middle];
  options.points[middle] = {old.x + 40, old.y + 30, {}};
  options.removed_points = {{old.x, old.y, {}}};
  const Background moved = fit_background(truth.frame.view(), options);
  options.correction = {};
  const Background bare = fit_background(truth.frame.view(), options);
  const auto error_far_away = [&](const Background& sky) {
    const Image model = sky.render();
    const std::vector<float> all = errors(truth, model, s.sigma);
    std::vector<float> far;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto x = static_cast<float>(i % 720), y = static_cast<float>(i / 720 % 480);
      if (std::hypot(x - old.x, y - old.y) > 150) far.push_back(all[i]);  // two points further
    }
    return rms(far);
  };
  const double far = error_far_away(moved);
  // in a grid of nine the spline itself changes everywhere when its middle goes elsewhere
  EXPECT_LT(far, error_far_away(first) + 0.1);
  EXPECT_LT(4 * far, error_far_away(bare));
  // used again as they are now, they give the same model to the last bit
  options.points = moved.points();
  options.removed_points.clear();
  options.correction = moved.correction().view();
  const Image one = moved.render(), other = fit_background(truth.frame.view(), options).render();
  EXPECT_TRUE(std::ranges::equal(one.pixels(), other.pixels()));
}

TEST(Background, APointThatIsAddedWhereTheSkyIsRightChangesNothing) {
  const auto s = settings(Gradient::moon, Object::none, 60);
  const auto truth = synthetic::make_sky(s);
  const Background first = fit_background(truth.frame.view());
  auto [options, middle] = by_hand(first);
  const ControlPoint by = options.points[middle];
  options.points.push_back({by.x + 50, by.y + 40, {}});
  const Image before = first.render(), after = fit_background(truth.frame.view(), options).render();
  double largest = 0;
  for (std::size_t i = 0; i < after.pixels().size(); ++i)
    largest =
        std::max(largest, std::abs(static_cast<double>(after.pixels()[i] - before.pixels()[i])));
  // 49 block medians of 64 pixels tell the sky to 0.03 sigma
  EXPECT_LT(largest, 0.1 * s.sigma);
}

TEST(Background, RemovingKeepsLevelNoiseAndMissingPixels) {
  const auto s = settings(Gradient::plane, Object::none, 20);
  auto truth = synthetic::make_sky(s);
  truth.frame.view()(0, 5, 5) = std::nanf("");
  for (int x = 0; x < 40; ++x) truth.frame.view()(1, 0, x) = 0;
  const float before = median(truth.frame.pixels());
  const Background sky = fit_background(truth.frame.view());
  for (const auto mode : {BackgroundMode::subtract, BackgroundMode::divide}) {
    Image frame = truth.frame.clone();
    remove_background(frame.view(), sky, {.mode = mode});
    // the medians of a skewed sky and of a flat one differ by a part of its range
    EXPECT_NEAR(median(frame.pixels()), before, 3 * s.sigma);
    EXPECT_TRUE(std::isnan(frame.view()(0, 5, 5)));
    EXPECT_EQ(frame.view()(1, 0, 7), 0);
  }
  Image neutral = truth.frame.clone();
  const RemoveReport report = remove_background(neutral.view(), sky, {.neutral = true});
  EXPECT_EQ(report.level[0], report.level[2]);
  const auto channel = [&](std::size_t c) {
    return neutral.pixels().subspan(c * 720 * 480, 720 * 480);
  };
  EXPECT_NEAR(median(channel(0)), median(channel(2)), 0.2F * s.sigma);
}

TEST(Background, APartOfTheFrameLosesTheSameSky) {
  auto truth = synthetic::make_sky(settings(Gradient::dome, Object::none, 20));
  truth.frame.view()(0, 205, 310) = std::nanf("");
  truth.frame.view()(2, 210, 320) = 0;
  const Background sky = fit_background(truth.frame.view());
  const Rect part{301, 203, 97, 41};
  for (const auto mode : {BackgroundMode::subtract, BackgroundMode::divide}) {
    const RemoveOptions options{.mode = mode, .neutral = true};
    Image whole = truth.frame.clone();
    remove_background(whole.view(), sky, options);
    const Image own =
        without_background(truth.frame.view().crop(part), sky, {.x = 301, .y = 203}, options);
    // the same rows, read upwards
    const Image upright = without_background(upside_down(truth.frame.view().crop(part)), sky,
                                             {.x = 301, .y = 243, .step_y = -1}, options);
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < part.height; ++y) {
        for (int x = 0; x < part.width; ++x) {
          const float wanted = whole.view()(c, part.y + y, part.x + x);
          if (std::isnan(wanted)) {
            ASSERT_TRUE(std::isnan(own.view()(c, y, x)));
            continue;
          }
          ASSERT_EQ(own.view()(c, y, x), wanted);
          ASSERT_EQ(upright.view()(c, part.height - 1 - y, x), wanted);
        }
      }
    }
  }
}

TEST(Background, AtASmallerScaleItIsTheMeanOfThePixels) {
  const auto truth = synthetic::make_sky(settings(Gradient::dome, Object::none, 20));
  const Background sky = fit_background(truth.frame.view());
  const Image full = sky.render();
  const Image small = sky.render({180, 120}, {.x = 1.5, .y = 1.5, .step_x = 4, .step_y = 4});
  for (int y = 0; y < 120; ++y) {
    for (int x = 0; x < 180; ++x) {
      float sum = 0;
      for (int j = 0; j < 16; ++j) sum += full.view()(1, 4 * y + j / 4, 4 * x + j % 4);
      // of a surface that hardly bends within four pixels
      ASSERT_NEAR(small.view()(1, y, x), sum / 16, 1e-5F);
    }
  }
}

TEST(Background, CountsWhatFallsBelowZero) {
  auto s = settings(Gradient::plane, Object::none, 20);
  s.level = 0.002F;
  auto truth = synthetic::make_sky(s);
  const auto negative = [&] {
    return std::ranges::count_if(truth.frame.pixels(), [](float v) { return v < 0; });
  };
  const auto before = negative();
  truth.frame.view()(0, 0, 0) = 0.0001F;
  const Background sky = fit_background(truth.frame.view());
  const RemoveReport report = remove_background(truth.frame.view(), sky);
  EXPECT_GE(static_cast<std::ptrdiff_t>(report.below_zero), negative() - before);
}

TEST(Background, RefusesWhatHasNoSky) {
  Image frame(3, {100, 80}, 0.2F);
  EXPECT_EQ(kind_of([&] { fit_background(frame.view()); }), ErrorKind::bad_input);  // constant
  std::ranges::fill(frame.pixels(), std::nanf(""));
  EXPECT_EQ(kind_of([&] { fit_background(frame.view()); }), ErrorKind::bad_input);
  EXPECT_EQ(kind_of([&] { fit_background(Image(1, {9, 9}, 1).view()); }), ErrorKind::bad_input);

  auto truth = synthetic::make_sky(settings(Gradient::plane, Object::none, 20));
  const Image empty(1, truth.frame.size(), 0), small(1, {10, 10}, 1);
  BackgroundOptions options;
  options.mask = empty.view();
  EXPECT_EQ(kind_of([&] { fit_background(truth.frame.view(), options); }), ErrorKind::failed);
  options.mask = small.view();
  EXPECT_EQ(kind_of([&] { fit_background(truth.frame.view(), options); }), ErrorKind::usage);
  std::ranges::fill(truth.frame.pixels().first(truth.frame.size().pixels()), 0.0F);
  EXPECT_EQ(kind_of([&] { fit_background(truth.frame.view()); }), ErrorKind::bad_input);  // no red
}

TEST(Background, NeverMasksTheWholeFrame) {
  // a nebula everywhere: nothing but turbulence
  Image frame(1, {640, 480});
  for (int y = 0; y < 480; ++y) {
    for (int x = 0; x < 640; ++x) {
      frame.view()(0, y, x) =
          0.1F + 0.1F * synthetic::turbulence(static_cast<float>(x), static_cast<float>(y), 200, 3);
    }
  }
  EXPECT_LT(fit_background(frame.view()).report().masked_share, 0.75);
}

TEST(Dither, KeepsTheMeanOfASlowGradient) {
  Image frame(1, {4096, 64});
  const float step = 1.0F / 255;
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 4096; ++x)
      frame.view()(0, y, x) = 0.5F + step * static_cast<float>(x) / 4096;
  }
  dither(frame.view(), step, 1);
  // Each column of rounded pixels has the mean of the gradient: without dither it would jump by a
  // step. 64 * 64 samples of a uniform error of a step: 0.29 / 64.
  for (int left = 0; left < 4096; left += 64) {
    double sum = 0;
    for (int y = 0; y < 64; ++y) {
      for (int x = left; x < left + 64; ++x)
        sum += std::round(static_cast<double>(frame.view()(0, y, x) / step));
    }
    EXPECT_NEAR(sum / 4096, 127.5 + (left + 31.5) / 4096, 5 * 0.5 / 64);
  }
}

TEST(Dither, LeavesNoBandsAndNoCombInSixteenBits) {
  // a sky of 40 steps over the frame, twice rounded: as a camera's integers, then after half of its
  // slope is taken out
  const int width = 4000, height = 50;
  const float step = 1.0F / 65535;
  const auto slope = [=](int x) { return 40 * step * static_cast<float>(x) / width; };
  Image frame(1, {width, height});
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const float seen = std::round((0.1F + slope(x)) / step) * step;
      frame.view()(0, y, x) = seen - 0.5F * slope(x);
    }
  }
  const auto longest_run = [&] {
    int longest = 0, run = 1;
    for (int x = 1; x < width; ++x) {
      const auto level = [&](int at) { return std::lround(frame.view()(0, 7, at) / step); };
      run = level(x) == level(x - 1) ? run + 1 : 1;
      longest = std::max(longest, run);
    }
    return longest;
  };
  EXPECT_GE(longest_run(), 50);  // the bands
  dither(frame.view(), step, 3);
  // the longest of 4000 tosses of a coin whose sides are at most nine times as likely
  EXPECT_LT(longest_run(), 130);
  std::map<long, int> counts;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      ++counts[std::lround(frame.view()(0, y, x) / step)];
    }
  }
  // 20 steps are left, none of them empty or twice its neighbour as in a comb
  ASSERT_GE(counts.size(), 20U);
  const long first = counts.begin()->first, last = counts.rbegin()->first;
  for (long level = first + 2; level < last - 2; ++level) {
    EXPECT_GT(counts[level], 0.6 * counts[level + 1]) << level;
    EXPECT_LT(counts[level], 1.6 * counts[level + 1]) << level;
  }
}

TEST(SkyStretch, IsUndoneByItsInverse) {
  for (const float m : {0.05F, 0.25F, 0.8F}) {
    const SkyStretch stretch{0.1F, 0.5F, m};
    EXPECT_NEAR(background::stretched(stretch, 0.1F + 0.5F * m), 0.25F, 1e-6F);
    for (float value = 0; value <= 1; value += 0.125F) {
      EXPECT_NEAR(background::stretched(stretch, background::unstretched(stretch, value)), value,
                  2e-5F);
    }
  }
}

TEST(Lattice, ReproducesParabolas) {
  const auto surface = [](double x, double y) {
    return 1e-4 * x * x - 2e-4 * x * y + 3e-4 * y * y + 0.1 * x;
  };
  const Image nodes = background::make_nodes(
      1, {61, 45},
      [&](double x, double y, std::span<float> v) { v[0] = static_cast<float>(surface(x, y)); }, 1);
  std::vector<float> row(61);
  for (int y = 0; y < 45; ++y) {
    background::fill_from_nodes(nodes.view(), 0, y, row);
    for (int x = 0; x < 61; ++x) ASSERT_NEAR(row[static_cast<std::size_t>(x)], surface(x, y), 2e-6);
  }
}

TEST(Background, PreviewShowsSixPictures) {
  const auto truth = synthetic::make_sky(settings(Gradient::dome, Object::nebula, 20));
  BackgroundOptions options;
  options.max_iterations = 20;
  const Image picture = fit_background(truth.frame.view(), options).preview();
  EXPECT_EQ(picture.channels(), 3);
  EXPECT_EQ(picture.width(), 3 * 480 + 4 * 8);
  EXPECT_EQ(picture.height(), 2 * 320 + 3 * 8);
  const auto [low, high] = std::ranges::minmax(picture.pixels());
  EXPECT_GE(low, 0);
  EXPECT_LE(high, 1);
}

TEST(BackgroundFitter, GivesWhatAFreshFitGives) {
  const auto truth = synthetic::make_sky(settings(Gradient::dome, Object::none, 10));
  const ConstView frame = truth.frame.view();
  Image left(1, frame.size());
  for (int y = 0; y < frame.height(); ++y)
    std::ranges::fill(left.view().row(0, y).first(static_cast<std::size_t>(frame.width() / 2)), 1);
  std::vector<BackgroundOptions> many(8, BackgroundOptions{.max_iterations = 20});
  many[1].control_points = 16;
  many[2].mask = left.view();
  many[3].stretch_quantile = 0.9;
  many[4].auto_mask = false;
  many[5].downscale = 4;
  many[7].downscale_with = Downscaling::mean;
  BackgroundFitter fitter(frame);
  for (const BackgroundOptions& options : many) {
    const Image kept = fitter.fit(options).render(),
                fresh = fit_background(frame, options).render();
    EXPECT_TRUE(std::ranges::equal(kept.pixels(), fresh.pixels()));
  }
}

}  // namespace
}  // namespace limpid
