#include <gtest/gtest.h>

#include <array>
#include <random>

#include <limpid/picture.h>

namespace limpid {
namespace {

/// A sky that rises to the right, with noise of 0.01, the same in every cell of 2 x 2 pixels but
/// for what is added to its pixels.
Image sky(std::array<float, 4> added, int channels = 1) {
  Image frame(channels, {240, 160});
  std::mt19937 random(7);
  std::normal_distribution<float> noise(0, 0.01F);
  for (int c = 0; c < channels; ++c) {
    for (int y = 0; y < 160; ++y) {
      for (int x = 0; x < 240; ++x) {
        frame.view()(c, y, x) = 0.2F + 0.001F * static_cast<float>(x) + noise(random) +
                                added[static_cast<std::size_t>(2 * (y % 2) + x % 2)];
      }
    }
  }
  return frame;
}

TEST(Mosaic, IsSeenWhicheverPixelIsGreen) {
  EXPECT_TRUE(looks_like_mosaic(sky({0, 0.02F, 0.02F, 0.01F}).view()));
  EXPECT_TRUE(looks_like_mosaic(sky({0.02F, 0, 0.01F, 0.02F}).view()));
  EXPECT_TRUE(looks_like_mosaic(sky({0.02F, 0, 0, 0.02F}).view()));  // red as bright as blue
}

TEST(Mosaic, IsNotWhatOneFilterShows) {
  EXPECT_FALSE(looks_like_mosaic(sky({}).view()));
  EXPECT_FALSE(looks_like_mosaic(sky({0, 0.02F, 0.02F, 0.01F}, 3).view()));
  // two amplifiers that read every other column, or row
  EXPECT_FALSE(looks_like_mosaic(sky({0, 0.02F, 0, 0.02F}).view()));
  EXPECT_FALSE(looks_like_mosaic(sky({0, 0, 0.02F, 0.02F}).view()));
  EXPECT_FALSE(looks_like_mosaic(Image(1, {240, 160}).view()));
  EXPECT_FALSE(looks_like_mosaic(Image(1, {3, 2}).view()));
}

}  // namespace
}  // namespace limpid
