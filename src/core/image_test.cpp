#include <algorithm>

#include <gtest/gtest.h>

#include <limpid/error.h>
#include <limpid/image.h>

namespace limpid {
namespace {

/// Every pixel tells where it is.
Image numbered(int channels, Size size) {
  Image image(channels, size);
  float value = 0;
  for (float& pixel : image.pixels()) pixel = value++;
  return image;
}

TEST(Image, StartsAtItsFill) {
  const Image image(2, {3, 2}, 0.5F);
  EXPECT_EQ(image.pixels().size(), 12U);
  for (const float pixel : image.pixels()) EXPECT_EQ(pixel, 0.5F);
}

TEST(Image, UnsetHasRoomForItsPixels) {
  Image image = Image::unset(2, {3, 2});
  ASSERT_EQ(image.pixels().size(), 12U);
  image.view()(1, 1, 2) = 7;
  EXPECT_EQ(image.pixels()[11], 7.0F);
}

TEST(Image, OfImpossibleSizeIsAnError) {
  try {
    const Image image(1000000, {2000000000, 2000000000});
    FAIL() << "was given the memory";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::exhausted);
  }
}

TEST(Image, CopyOfACropHoldsThePixelsOfTheCrop) {
  const Image image = numbered(3, {7, 5});
  const Image part = copy(image.view().crop({2, 1, 4, 3}));
  ASSERT_EQ(part.size(), (Size{4, 3}));
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = 0; y < 3; ++y) {
      for (int x = 0; x < 4; ++x) {
        EXPECT_EQ(part.view()(channel, y, x), image.view()(channel, y + 1, x + 2));
      }
    }
  }
}

TEST(Image, CloneIsItsOwnMemory) {
  Image image = numbered(1, {4, 4});
  const Image other = image.clone();
  image.view()(0, 0, 0) = -1;
  EXPECT_EQ(other.view()(0, 0, 0), 0);
}

TEST(Rect, IntersectionOfStrangersIsEmpty) {
  EXPECT_EQ(intersect({0, 0, 4, 4}, {2, 1, 9, 2}), (Rect{2, 1, 2, 2}));
  EXPECT_EQ(intersect({0, 0, 4, 4}, {9, 9, 4, 4}).size().pixels(), 0U);
}

TEST(ExtractMirrored, InsideIsTheCrop) {
  const Image image = numbered(2, {9, 8});
  const Image out = extract_mirrored(image.view(), {3, 2, 4, 5});
  const Image crop = copy(image.view().crop({3, 2, 4, 5}));
  EXPECT_TRUE(std::ranges::equal(out.pixels(), crop.pixels()));
}

TEST(ExtractMirrored, ReflectsAgainAndAgainWithoutRepeatingTheEdge) {
  Image image(1, {3, 1});
  for (int x = 0; x < 3; ++x) image.view()(0, 0, x) = static_cast<float>(x);
  const Image out = extract_mirrored(image.view(), {-5, 0, 13, 1});
  // ... 1 2 1 [0 1 2] 1 0 1 2 ..., starting five before the 0
  const float expected[] = {1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1};
  for (int x = 0; x < 13; ++x) EXPECT_EQ(out.view()(0, 0, x), expected[x]) << x;
}

TEST(ExtractMirrored, WhereNothingOfTheFrameIsCovered) {
  const Image image = numbered(1, {4, 4});
  const Image out = extract_mirrored(image.view(), {8, -8, 2, 2});
  // period 6: x = 8 -> 2, 9 -> 3; y = -8 -> 8 -> 2, -7 -> 1
  EXPECT_EQ(out.view()(0, 0, 0), image.view()(0, 2, 2));
  EXPECT_EQ(out.view()(0, 1, 1), image.view()(0, 1, 3));
}

}  // namespace
}  // namespace limpid
