#include "background/correction.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace limpid::background {
namespace {

double parabola(double x, double y) { return 2e-4 * x * x - 1e-4 * x * y + 0.02 * y + 1; }

TEST(Correction, ReproducesParabolasToTheEndsAndBeyond) {
  for (const Size frame : {Size{700, 400}, Size{33, 20}, Size{20, 600}}) {
    const auto at = [](double x, double y, std::span<float> values) {
      values[0] = static_cast<float>(parabola(x, y));
      values[1] = -values[0];
    };
    const Image values = make_correction(2, frame, at);
    const Correction correction(values.view());
    for (const double across : {-0.01, 0.0, 0.3, 0.77, 1.0, 1.01}) {
      for (const double down : {0.0, 0.5, 0.99, 1.0}) {
        std::vector<float> found{3, 3};
        correction.add(across, down, found);
        const double wanted = parabola(across * (frame.width - 1), down * (frame.height - 1));
        // sums of sixteen floats of the order of 100
        EXPECT_NEAR(found[0], 3 + wanted, 1e-4) << across << ' ' << down;
        EXPECT_NEAR(found[1], 3 - wanted, 1e-4) << across << ' ' << down;
      }
    }
  }
}

TEST(Correction, OfOneChannelServesAll) {
  const Image values(1, {3, 3}, 0.5F);
  std::vector<float> found{1, 2, 3};
  Correction(values.view()).add(0.2, 0.9, found);
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(found[c], static_cast<float>(c) + 1.5F, 1e-5F);  // the weights sum to 1 to rounding
  }
}

TEST(Correction, FadesTowardsTheMiddleOfAGapAndNowhereElse) {
  Image values(2, {49, 33}, 0.5F);
  const Size frame{4801, 3201};  // a node at every hundredth pixel
  fade(values.view(), frame, std::vector<Gap>{{2000, 1000, 600}, {4000, 3000, 0}});
  for (int c = 0; c < 2; ++c) {
    for (int j = 0; j < 33; ++j) {
      for (int i = 0; i < 49; ++i) {
        const double away = std::hypot(100 * i - 2000, 100 * j - 1000);
        const float value = values.view()(c, j, i);
        if (away >= 600) {
          EXPECT_EQ(value, 0.5F) << i << ' ' << j;
        } else if (away == 0) {
          EXPECT_EQ(value, 0);
        } else if (away == 300) {
          EXPECT_NEAR(value, 0.25F, 1e-6F);
        }
        EXPECT_LE(value, 0.5F);
      }
    }
  }
  const Image kept = values.clone();
  fade(values.view(), frame, {});
  EXPECT_TRUE(std::ranges::equal(kept.pixels(), values.pixels()));
}

}  // namespace
}  // namespace limpid::background
