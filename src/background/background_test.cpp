#include <limpid/background.h>

#include <algorithm>
#include <utility>

#include <gtest/gtest.h>

#include "background/background_test.h"
#include "background/loss.h"
#include "background/optimise.h"
#include "background/sky_stretch.h"

namespace limpid::background {
namespace {

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
}  // namespace limpid::background
