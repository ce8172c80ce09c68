#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include <limpid/picture.h>

#include "core/statistics.h"

namespace limpid {
namespace {

/// Three channels with skies of their own, all with noise of 0.001.
Image night_sky() {
  Image frame(3, {200, 100});
  std::mt19937 random(5);
  for (int channel = 0; channel < 3; ++channel) {
    std::normal_distribution<float> normal(0.02F + 0.01F * static_cast<float>(channel), 0.001F);
    for (int y = 0; y < 100; ++y) {
      for (float& pixel : frame.view().row(channel, y)) pixel = normal(random);
    }
  }
  return frame;
}

TEST(Stretch, ShowsTheSkyAsTheSameDarkGreyInAllChannels) {
  const Image frame = night_sky();
  const Image picture = apply(measure_stretch(frame.view()), frame.view());
  for (int channel = 0; channel < 3; ++channel) {
    // 0.25 is the target of the method; the medians of 20,000 pixels scatter by 1 % of the noise
    const std::size_t plane = frame.size().pixels();
    const auto pixels = picture.pixels().subspan(static_cast<std::size_t>(channel) * plane, plane);
    EXPECT_NEAR(median(pixels), 0.25F, 0.005F);
  }
}

TEST(Stretch, KeepsTheOrderOfBrightness) {
  const Stretch stretch{{0.1F}, 0.01F};
  Image ramp(1, {1000, 1});
  for (int x = 0; x < 1000; ++x) ramp.view()(0, 0, x) = static_cast<float>(x) / 900.0F;
  const Image picture = apply(stretch, ramp.view());
  EXPECT_TRUE(std::ranges::is_sorted(picture.pixels()));
  EXPECT_EQ(picture.pixels().front(), 0.0F);
  EXPECT_EQ(picture.pixels().back(), 1.0F);
}

TEST(Stretch, OfNoDataIsBlackAndOfAConstantNoTrouble) {
  Image frame(1, {8, 8}, std::numeric_limits<float>::quiet_NaN());
  Image picture = apply(measure_stretch(frame.view()), frame.view());
  EXPECT_EQ(*std::ranges::max_element(picture.pixels()), 0.0F);
  frame = Image(1, {8, 8}, 0.3F);
  picture = apply(measure_stretch(frame.view()), frame.view());
  EXPECT_FALSE(std::isnan(picture.view()(0, 0, 0)));
}

TEST(Stretch, LinkedKeepsTheColourOfTheSkyAndUnlinkedTakesItOut) {
  const Image frame = night_sky();  // red darkest, blue brightest
  const auto shown = [&](bool linked) {
    const Image picture = apply(measure_stretch(frame.view(), {.linked = linked}), frame.view());
    const std::size_t plane = frame.size().pixels();
    return median(picture.pixels().subspan(2 * plane, plane)) -
           median(picture.pixels().subspan(0, plane));
  };
  EXPECT_LT(std::abs(shown(false)), 0.005F);
  EXPECT_GT(shown(true), 0.1F);
}

TEST(Stretch, ShowsTheSkyAsBrightAsAsked) {
  const Image frame = night_sky();
  for (const float sky : {0.08F, 0.25F, 0.5F}) {
    const Image picture = apply(measure_stretch(frame.view(), {.sky = sky}), frame.view());
    EXPECT_NEAR(median(picture.pixels()), sky, 0.01F);
  }
}

TEST(Pyramid, HasTheMeanOfWhatLiesUnderEachPixel) {
  Image frame(3, {101, 67});
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(0, 1);
  for (float& pixel : frame.pixels()) pixel = uniform(random);
  const Pyramid pyramid(frame.view(), 16);
  ASSERT_EQ(pyramid.levels(), 4);  // 101, 51, 26, 13
  EXPECT_EQ(pyramid.level(0).data(), frame.view().data());
  EXPECT_EQ(pyramid.level(3).size(), (Size{13, 9}));
  for (int y = 0; y < 32; ++y) {
    for (int x = 0; x < 48; ++x) {
      float sum = 0;
      for (int j = 0; j < 2; ++j) {
        for (int i = 0; i < 2; ++i) sum += frame.view()(1, 2 * y + j, 2 * x + i);
      }
      EXPECT_NEAR(pyramid.level(1)(1, y, x), sum / 4, 1e-6F);
    }
  }
  // the last column has two pixels under it
  EXPECT_NEAR(pyramid.level(1)(0, 0, 50), (frame.view()(0, 0, 100) + frame.view()(0, 1, 100)) / 2,
              1e-6F);
}

TEST(Pyramid, LeavesPixelsWithoutDataOut) {
  Image frame(1, {4, 2}, 2.0F);
  frame.view()(0, 0, 0) = std::numeric_limits<float>::quiet_NaN();
  for (int x : {2, 3}) {
    for (int y : {0, 1}) frame.view()(0, y, x) = std::numeric_limits<float>::quiet_NaN();
  }
  const Pyramid pyramid(frame.view(), 2);
  EXPECT_EQ(pyramid.level(1)(0, 0, 0), 2.0F);
  EXPECT_TRUE(std::isnan(pyramid.level(1)(0, 0, 1)));
}

TEST(Histogram, CountsEveryPixelThatHasAValueOnce) {
  Image picture(1, {5, 2});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::ranges::copy(std::array{-1.0F, 0.0F, 0.1F, 0.26F, 0.5F, 0.99F, 1.0F, 7.0F, nan, 0.74F},
                    picture.pixels().begin());
  const auto counts = measure_histogram(picture.view(), 4);
  ASSERT_EQ(counts.size(), 1U);
  EXPECT_EQ(counts[0], (std::vector<std::size_t>{3, 1, 2, 3}));
}

TEST(ShowDifferences, IsGreyWithoutAnyRedAboveAndBlueBelow) {
  Image map(3, {3, 1});
  map.view()(1, 0, 1) = 8;
  map.view()(2, 0, 2) = -8;
  map.view()(0, 0, 2) = std::numeric_limits<float>::quiet_NaN();
  const Image picture = show_differences(map.view(), 5);
  const auto at = [&](int channel, int x) { return picture.view()(channel, 0, x); };
  EXPECT_EQ(at(0, 0), at(1, 0));
  EXPECT_EQ(at(1, 0), at(2, 0));
  EXPECT_GT(at(0, 1), at(2, 1) + 0.5F);
  EXPECT_GT(at(2, 2), at(0, 2) + 0.5F);
}

TEST(Enlarge, MakesASquareOfEachPixel) {
  Image frame(1, {3, 2});
  for (std::size_t i = 0; i < 6; ++i) frame.pixels()[i] = static_cast<float>(i);
  const Image picture = enlarge(frame.view(), 4);
  ASSERT_EQ(picture.size(), (Size{12, 8}));
  for (int y = 0; y < 8; ++y) {
    for (int x = 0; x < 12; ++x) {
      EXPECT_EQ(picture.view()(0, y, x), frame.view()(0, y / 4, x / 4));
    }
  }
}

TEST(Every, TakesOnePixelOfEachSquare) {
  Image frame(2, {37, 23});
  for (std::size_t i = 0; i < frame.pixels().size(); ++i) frame.pixels()[i] = static_cast<float>(i);
  for (const int step : {1, 4, 64}) {
    const Image sparse =
        every(step, frame.size(), [&](Rect part) { return copy(frame.view().crop(part)); });
    ASSERT_EQ(sparse.size(), (Size{(37 + step - 1) / step, (23 + step - 1) / step}));
    ASSERT_EQ(sparse.channels(), 2);
    for (int c = 0; c < 2; ++c) {
      for (int y = 0; y < sparse.height(); ++y) {
        for (int x = 0; x < sparse.width(); ++x) {
          const float own = sparse.view()(c, y, x);
          EXPECT_EQ(own, frame.view()(c, std::min(22, y * step + step / 2),
                                      std::min(36, x * step + step / 2)));
        }
      }
    }
  }
}

}  // namespace
}  // namespace limpid
