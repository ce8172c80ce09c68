// Control points that come from elsewhere: saved, placed or moved by hand.
#include <algorithm>
#include <cmath>
#include <utility>

#include <gtest/gtest.h>
#include <limpid/background.h>

#include "background/background_test.h"

namespace limpid::background {
namespace {

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

}  // namespace
}  // namespace limpid::background
