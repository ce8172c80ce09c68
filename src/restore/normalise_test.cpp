#include "restore/normalise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/random.h"

namespace limpid {
namespace {

Image noise(int channels, Size size, float level) {
  Random random(7);
  Image image(channels, size);
  for (float& value : image.pixels()) value = level + 0.01F * static_cast<float>(random.normal());
  return image;
}

TEST(Normalisation, UndoesWhatItDid) {
  for (const int channels : {1, 3}) {
    const Image frame = noise(channels, {20, 10}, 0.3F);
    const Normalisation normalisation(
        std::vector<SkyLevel>(static_cast<std::size_t>(channels), {0.3F, 0.01F}), frame.view());
    const Image there = normalisation.apply(frame.view());
    EXPECT_EQ(there.channels(), 3);
    const Image back = normalisation.undo(there.view());
    for (std::size_t i = 0; i < frame.pixels().size(); ++i)
      EXPECT_NEAR(back.pixels()[i], frame.pixels()[i], 1e-6F);
  }
}

TEST(Normalisation, DarkCloudsLieOverZeroWhenTheLevelIsTheNebulas) {
  Image frame = noise(1, {200, 200}, 0.5F);
  const std::vector<SkyLevel> level{{0.5F, 0.01F}};
  const Normalisation plain(level, frame.view());
  EXPECT_NEAR(plain.sky()[0].sky, 0.5, 0.002);  // noise alone changes nothing
  for (int y = 50; y < 90; ++y) {
    for (int x = 60; x < 120; ++x) frame.view()(0, y, x) -= 0.2F;
  }
  const Image normal = Normalisation(level, frame.view()).apply(frame.view());
  EXPECT_GT(normal.view()(0, 70, 90), -5);
}

TEST(Normalisation, ConstantFramesHaveNoNoiseAndDoNotDivideByIt) {
  const Image frame(1, {8, 8}, 0.5F);
  const Normalisation normalisation({{0.5F, 0.0F}}, frame.view());
  const Image normal = normalisation.apply(frame.view());
  for (const float value : normal.pixels()) EXPECT_EQ(value, 0);
}

TEST(Missing, FindsNanAndBordersButNotSingleZeros) {
  Image frame = noise(3, {64, 48}, 0.3F);
  for (int c = 0; c < 3; ++c) {
    frame.view()(c, 20, 30) = 0;  // a dead pixel inside
    for (int y = 0; y < 48; ++y) {
      for (int x = 0; x < 4; ++x) frame.view()(c, y, x) = 0;    // left border of registration
      for (int x = 60; x < 64; ++x) frame.view()(c, y, x) = 1;  // white right border
    }
  }
  frame.view()(1, 10, 10) = std::numeric_limits<float>::quiet_NaN();
  const Image missing = find_missing(frame.view());
  ASSERT_FALSE(missing.empty());
  EXPECT_EQ(missing.view()(0, 20, 30), 0);
  EXPECT_EQ(missing.view()(0, 10, 10), 1);
  EXPECT_EQ(missing.view()(0, 5, 0), 1);
  EXPECT_EQ(missing.view()(0, 5, 63), 1);
  EXPECT_EQ(missing.view()(0, 5, 32), 0);
}

TEST(Missing, AConstantFrameIsAFrame) {
  for (const float value : {0.0F, 0.5F})
    EXPECT_TRUE(find_missing(Image(1, {32, 32}, value).view()).empty());
}

TEST(Missing, NothingIsMissingFromAnOrdinaryFrame) {
  EXPECT_TRUE(find_missing(noise(1, {40, 40}, 0.2F).view()).empty());
}

TEST(Missing, FillContinuesASlope) {
  Image frame(1, {64, 64}), missing(1, {64, 64});
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 64; ++x) frame.view()(0, y, x) = 0.01F * static_cast<float>(x);
  }
  for (int y = 20; y < 30; ++y) {
    for (int x = 20; x < 30; ++x) {
      frame.view()(0, y, x) = std::numeric_limits<float>::quiet_NaN();
      missing.view()(0, y, x) = 1;
    }
  }
  fill_missing(frame.view(), missing.view());
  for (int y = 20; y < 30; ++y) {
    // a smooth continuation, not an exact one: within the gap's own range of values
    for (int x = 20; x < 30; ++x)
      EXPECT_NEAR(frame.view()(0, y, x), 0.01F * static_cast<float>(x), 0.05F);
  }
}

}  // namespace
}  // namespace limpid
