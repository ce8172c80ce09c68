#include <algorithm>
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

}  // namespace
}  // namespace limpid
