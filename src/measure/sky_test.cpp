#include "measure/sky.h"

#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "synthetic.h"

namespace limpid {
namespace {

constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

TEST(MeasureSky, FindsLevelAndNoiseUnderStars) {
  synthetic::FieldSettings settings;
  settings.size = {512, 512};
  settings.stars = 150;
  settings.snr_min = 10;
  settings.snr_max = 1000;
  const auto field = synthetic::make_field(settings);
  const auto sky = measure_sky(field.frame.view());
  ASSERT_EQ(sky.size(), 1U);
  // wings of the stars lift the quiet cells by some tenths of a sigma
  EXPECT_NEAR(sky[0].sky, 0.1F, 0.0003F);
  EXPECT_NEAR(sky[0].sigma, 0.001F, 0.00004F);
}

TEST(MeasureSky, SmoothLightIsNoNoise) {
  Image frame(1, {512, 512}, 0.1F);
  for (int y = 0; y < 512; ++y) {
    for (int x = 0; x < 512; ++x) {
      frame.view()(0, y, x) +=
          0.2F *
          std::exp(-0.00003F * static_cast<float>((x - 200) * (x - 200) + (y - 300) * (y - 300)));
    }
  }
  synthetic::add_noise(frame.view(), 0.002F, 0, 0, 3);
  EXPECT_NEAR(measure_sky(frame.view())[0].sigma, 0.002F, 0.0001F);
}

TEST(MeasureSky, NoiseSharedByNeighboursCountsInFull) {
  Image white(1, {512, 512}), smooth(1, {512, 512});
  synthetic::add_noise(white.view(), 1, 0, 0, 5);
  double squares = 0;
  for (int y = 1; y < 512; ++y) {
    for (int x = 1; x < 512; ++x) {
      const float mean = 0.25F * (white.view()(0, y, x) + white.view()(0, y - 1, x) +
                                  white.view()(0, y, x - 1) + white.view()(0, y - 1, x - 1));
      smooth.view()(0, y, x) = mean;
      squares += mean * mean;
    }
  }
  // half the noise of one pixel; differences of neighbours would see a third of it only
  EXPECT_NEAR(measure_sky(smooth.view())[0].sigma, std::sqrt(squares / (511 * 511)), 0.02);
}

TEST(MeasureSky, SubtractedFramesAndBordersAreNoTrap) {
  Image frame(1, {300, 200});
  synthetic::add_noise(frame.view(), 0.01F, 0, 0, 7);
  for (int y = 0; y < 200; ++y) {
    for (int x = 0; x < 40; ++x) frame.view()(0, y, x) = 0;
    for (int x = 280; x < 300; ++x) frame.view()(0, y, x) = no_data;
  }
  for (int x = 0; x < 300; ++x) frame.view()(0, 199, x) = frame.view()(0, 198, x) = 1;
  const auto sky = measure_sky(frame.view());
  EXPECT_NEAR(sky[0].sky, 0, 0.0005F);
  EXPECT_NEAR(sky[0].sigma, 0.01F, 0.0005F);
}

TEST(MeasureSky, FewLevelsStillHaveNoise) {
  Image frame(1, {256, 256}, 0.1F);
  synthetic::add_noise(frame.view(), 0.004F, 0, 0, 9);
  for (float& pixel : frame.pixels()) pixel = std::round(pixel * 255) / 255;
  // one level is 0.0039: rounding adds its own 0.0011 in quadrature
  EXPECT_NEAR(measure_sky(frame.view())[0].sigma, 0.00416F, 0.0004F);
  Image coarse(1, {256, 256}, 10.0F / 255);
  coarse.view()(0, 100, 100) = 11.0F / 255;
  EXPECT_NEAR(measure_sky(coarse.view())[0].sigma, 1 / 255.0F / std::sqrt(12.0F), 1e-5F);
}

TEST(MeasureSky, ConstantAndEmptyFramesHaveNoNoise) {
  const Image constant(3, {100, 80}, 0.25F);
  for (const SkyLevel& level : measure_sky(constant.view())) {
    EXPECT_FLOAT_EQ(level.sky, 0.25F);
    EXPECT_EQ(level.sigma, 0);
  }
  const Image nothing(1, {64, 64}, no_data);
  EXPECT_EQ(measure_sky(nothing.view())[0].sigma, 0);
}

}  // namespace
}  // namespace limpid
