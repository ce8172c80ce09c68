#include "measure/coverage.h"

#include <vector>

#include <gtest/gtest.h>

#include "synthetic.h"

namespace limpid {
namespace {

TEST(Coverage, AClippedStarAtTheEdgeIsPicture) {
  Image frame(1, {300, 200});
  synthetic::add_noise(frame.view(), 0.01F, 0, 0, 7);
  for (int y = 90; y < 104; ++y) {
    for (int x = 290; x < 300; ++x) frame.view()(0, y, x) = 1;
  }
  EXPECT_TRUE(Coverage(frame.view()).covers(299, 95));
  // but a white border is none, nor is a white line
  for (int y = 0; y < 200; ++y) {
    for (int x = 0; x < 6; ++x) frame.view()(0, y, x) = 1;
  }
  for (int x = 0; x < 300; ++x) frame.view()(0, 199, x) = 1;
  const Coverage coverage(frame.view());
  EXPECT_FALSE(coverage.covers(3, 50));
  EXPECT_FALSE(coverage.covers(150, 199));
  EXPECT_TRUE(coverage.covers(299, 95));
}

TEST(Coverage, BlanksWhatItDoesNotCover) {
  Image frame(1, {60, 40}, 0.5F);
  for (int y = 0; y < 40; ++y) {
    for (int x = 0; x < 60; ++x) {
      if (x < 5 + y / 4 || y < 6 || y + x / 10 >= 36) frame.view()(0, y, x) = 0;
    }
  }
  const Coverage coverage(frame.view());
  EXPECT_TRUE(coverage.covers(30, 20));
  EXPECT_FALSE(coverage.covers(2, 20));
  for (int y = 0; y < 40; ++y) {
    std::vector<float> row(60, 1.0F);
    coverage.blank_outside(y, row);
    for (int x = 0; x < 60; ++x)
      EXPECT_EQ(row[static_cast<std::size_t>(x)] != 0, coverage.covers(x, y)) << x << ", " << y;
  }
}

}  // namespace
}  // namespace limpid
