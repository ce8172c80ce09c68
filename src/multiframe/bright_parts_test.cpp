#include "multiframe/bright_parts.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace limpid::multiframe {
namespace {

constexpr float level = 10;

/// Two stars with wings on an even sky, the second one bent round a dark place.
Image two_stars() {
  Image image(1, {60, 40}, level);
  for (int y = 8; y < 17; ++y) {
    for (int x = 8; x < 17; ++x) image.view()(0, y, x) += 50;
  }
  for (int i = 0; i < 12; ++i) {
    for (const int x : {40, 51}) image.view()(0, 20 + i, x) += 50;
    image.view()(0, 31, 40 + i) += 50;
  }
  return image;
}
double sum(ConstView image, Rect rect) {
  double total = 0;
  for (int y = rect.y; y < rect.y + rect.height; ++y) {
    for (int x = rect.x; x < rect.x + rect.width; ++x) total += image(0, y, x);
  }
  return total;
}

TEST(BrightParts, ARingIsLiftedAtTheCostOfItsOwnStarAlone) {
  Image image = two_stars();
  const BrightParts parts(image.view(), level, 1);
  image.view()(0, 9, 9) = 4;
  const Image before = image.clone();
  parts.lift(image.view(), level - 0.5F, level, true, 1);
  EXPECT_FLOAT_EQ(image.view()(0, 9, 9), level - 0.5F);
  EXPECT_LT(image.view()(0, 12, 12), level + 50);
  const Rect first{0, 0, 30, 40};
  // sums of some hundred values, rounded to 4e-6 each
  EXPECT_NEAR(sum(image.view(), first), sum(before.view(), first), 1e-2);
  for (int y = 0; y < 40; ++y) {
    for (int x = 30; x < 60; ++x) EXPECT_EQ(image.view()(0, y, x), before.view()(0, y, x));
  }
}

TEST(BrightParts, APartThatIsJoinedFurtherDownIsOne) {
  Image image = two_stars();
  const BrightParts parts(image.view(), level, 1);
  image.view()(0, 20, 40) = 0;  // one end of the bow
  parts.lift(image.view(), level - 0.5F, level, true, 1);
  EXPECT_LT(image.view()(0, 20, 51), level + 50) << "the other end gives, too";
}

TEST(BrightParts, TheSkyIsLeftAlone) {
  Image image(2, {30, 30}, level);
  image.view()(1, 15, 15) += 100;
  const BrightParts parts(image.view(), level, 1);
  image.view()(0, 15, 15) = 3;  // dark where another channel is bright
  image.view()(1, 2, 2) = 3;
  const Image before = image.clone();
  parts.lift(image.view(), level - 0.5F, level, true, 1);
  EXPECT_TRUE(std::ranges::equal(image.pixels(), before.pixels()));
}

TEST(BrightParts, OneThreadEqualsEight) {
  Image image = two_stars();
  const BrightParts parts(image.view(), level, 1);
  image.view()(0, 9, 9) = 4;
  Image other = image.clone();
  parts.lift(image.view(), level - 0.5F, level, true, 1);
  parts.lift(other.view(), level - 0.5F, level, true, 8);
  EXPECT_TRUE(std::ranges::equal(image.pixels(), other.pixels()));
}

}  // namespace
}  // namespace limpid::multiframe
