#include "train/interval.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/random.h"

namespace limpid {
namespace {

TEST(Interval, OfAMeanHoldsTheTruthAsOftenAsItSays) {
  Random random(7);
  int held = 0;
  constexpr int trials = 300;
  double width = 0;
  for (int t = 0; t < trials; ++t) {
    std::vector<double> scenes(12);
    for (double& value : scenes) value = 5 + random.normal();
    const Estimate mean = mean_of(scenes);
    held += mean.low <= 5 && 5 <= mean.high ? 1 : 0;
    width += (mean.high - mean.low) / trials;
  }
  // percentiles of twelve values are somewhat too narrow: sqrt(11/12), and normal for Student's t
  EXPECT_GT(held, 0.87 * trials);
  EXPECT_LT(held, 0.98 * trials);
  EXPECT_NEAR(width, 2 * 1.96 / std::sqrt(12), 0.12);
}

TEST(Interval, OfAMedianKnowsThatStarsOfASceneBelongTogether) {
  Random random(8);
  std::vector<std::vector<double>> together(8), apart(8);
  for (std::size_t i = 0; i < together.size(); ++i) {
    const double common = random.normal();
    for (int k = 0; k < 50; ++k) {
      together[i].push_back(common + 0.1 * random.normal());
      apart[i].push_back(random.normal());
    }
    together[i].push_back(NAN);  // a star that could not be fitted
  }
  const Estimate wide = median_of(together), narrow = median_of(apart);
  EXPECT_GT(wide.high - wide.low, 2 * (narrow.high - narrow.low));
  EXPECT_LE(wide.low, wide.value);
  EXPECT_GE(wide.high, wide.value);
}

TEST(Interval, FewScenesGiveNone) {
  EXPECT_TRUE(std::isnan(mean_of({1, 2}).low));
  EXPECT_EQ(mean_of({1, 2}).value, 1.5);
  EXPECT_TRUE(std::isnan(median_of({{}, {}, {}}).value));
}

TEST(Interval, OfACountIsGarwoods) {
  // tabulated: 0 counted: 0 to 3.689; 3 counted: 0.619 to 8.767
  EXPECT_NEAR(counted(0, 1).high, 3.689, 0.001);
  EXPECT_EQ(counted(0, 1).low, 0);
  EXPECT_NEAR(counted(3, 2).low, 2 * 0.619, 0.002);
  EXPECT_NEAR(counted(3, 2).high, 2 * 8.767, 0.002);
}

}  // namespace
}  // namespace limpid
