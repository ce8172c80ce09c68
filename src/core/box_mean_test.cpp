#include "core/box_mean.h"

#include <gtest/gtest.h>

#include "core/random.h"

namespace limpid {
namespace {

TEST(BoxMean, IsTheMeanOfTheSquareAsFarAsItReaches) {
  Random random(5, 0);
  for (const int width : {1, 5, 8, 37, 71}) {  // also of less than what is added up together
    Image image(1, {width, 23});
    for (float& value : image.pixels()) value = static_cast<float>(random.normal());
    for (const int half : {0, 1, 4, 30}) {
      const Image means = box_mean(image.view(), half);
      for (int y = 0; y < 23; ++y) {
        for (int x = 0; x < width; ++x) {
          double sum = 0;
          int count = 0;
          for (int v = std::max(0, y - half); v <= std::min(22, y + half); ++v) {
            for (int u = std::max(0, x - half); u <= std::min(width - 1, x + half); ++u) {
              sum += static_cast<double>(image.view()(0, v, u));
              ++count;
            }
          }
          ASSERT_NEAR(means.view()(0, y, x), sum / count, 1e-5)
              << x << ", " << y << ", " << half << ", " << width;
        }
      }
    }
  }
}

TEST(BoxMean, OfRowsThatAreMadeIsTheSame) {
  Image image(1, {50, 23});
  Random random(5, 0);
  for (float& value : image.pixels()) value = static_cast<float>(random.normal());
  for (const int half : {0, 1, 4, 30}) {
    const Image means = box_mean(image.view(), half);
    BoxMeanRows rows(image.size(), half, rows_of(image.view()));
    for (const int y : {0, 1, 2, 9, 10, 21, 22}) {
      EXPECT_TRUE(std::ranges::equal(rows.row(y), means.view().row(0, y))) << y << ", " << half;
      EXPECT_TRUE(std::ranges::equal(rows.made(y), image.view().row(0, y))) << y << ", " << half;
    }
  }
}

TEST(BoxMean, IsExactlyZeroWhereNothingIs) {
  Image flags(1, {64, 64});
  flags.view()(0, 20, 30) = 1;
  const Image means = box_mean(flags.view(), 3);
  EXPECT_GT(means.view()(0, 23, 33), 0.0F);
  EXPECT_EQ(means.view()(0, 24, 30), 0.0F);
  EXPECT_EQ(means.view()(0, 20, 26), 0.0F);
  EXPECT_EQ(means.view()(0, 60, 60), 0.0F);
}

}  // namespace
}  // namespace limpid
