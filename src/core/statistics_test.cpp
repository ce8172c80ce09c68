#include "core/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace limpid {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> normal_samples(int count, float mean, float sigma) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(mean, sigma);
  std::vector<float> samples(static_cast<std::size_t>(count));
  for (float& sample : samples) sample = normal(random);
  return samples;
}

TEST(Statistics, QuantileAgreesWithSorting) {
  for (const int count : {1, 2, 3, 10, 101, 1000, 1001}) {
    const std::vector<float> samples = normal_samples(count, 0, 1);
    std::vector<float> sorted = samples;
    std::ranges::sort(sorted);
    for (const double q : {0.0, 0.1, 0.25, 0.5, 0.9, 1.0}) {
      const double position = q * (count - 1);
      const auto below = static_cast<std::size_t>(position);
      const auto above = std::min(below + 1, sorted.size() - 1);
      const double part = position - std::floor(position);
      const double expected = sorted[below] * (1 - part) + sorted[above] * part;
      EXPECT_NEAR(quantile(samples, q), expected, 1e-6) << count << " " << q;
    }
  }
}

TEST(Statistics, RangeIsThatOfTheLeastAndTheGreatest) {
  for (const int count : {1, 7, 8, 9, 1001}) {
    const std::vector<float> samples = normal_samples(count, 3, 1);
    const auto [lowest, highest] = std::ranges::minmax(samples);
    const Range range = range_of(samples);
    EXPECT_EQ(range.lowest, lowest);
    EXPECT_EQ(range.highest, highest);
  }
}

TEST(Statistics, QuantileOfSortedAndOfRepeatedSamplesAgreesWithSorting) {
  std::vector<float> rising(1000), few_values(1000), organ(1000);
  for (int i = 0; i < 1000; ++i) {
    const auto at = static_cast<std::size_t>(i);
    rising[at] = static_cast<float>(i);
    few_values[at] = static_cast<float>(i * 7919 % 3);
    organ[at] = static_cast<float>(std::min(i, 999 - i));
  }
  for (std::vector<float> samples : {rising, few_values, organ, std::vector(1000, 5.0F)}) {
    for (const bool backwards : {false, true}) {
      if (backwards) std::ranges::reverse(samples);
      std::vector<float> sorted = samples;
      std::ranges::sort(sorted);
      for (const std::size_t n : {0U, 1U, 333U, 500U, 998U, 999U})
        EXPECT_EQ(quantile(samples, static_cast<double>(n) / 999), sorted[n]) << n;
    }
  }
}

TEST(Statistics, QuantileOfSamplesFarFromEvenAgreesWithSorting) {
  // each twice as far out as the one before, on either side of zero
  std::vector<float> samples;
  for (int i = -100; i < 100; ++i) {
    samples.push_back(std::ldexp(1.0F, i));
    samples.push_back(-std::ldexp(1.5F, i));
  }
  std::ranges::shuffle(samples, std::mt19937(7));
  std::vector<float> sorted = samples;
  std::ranges::sort(sorted);
  const auto last = static_cast<double>(samples.size() - 1);
  for (std::size_t n = 0; n < samples.size(); ++n)
    EXPECT_EQ(quantile(samples, static_cast<double>(n) / last), sorted[n]) << n;
}

TEST(Statistics, NoDataIsLeftOut) {
  const std::vector<float> samples = {nan, 3, 1, nan, 2};
  EXPECT_EQ(median(samples), 2);
  EXPECT_EQ(mad(samples, 2), 1);
  EXPECT_EQ(sigma_clip(samples).count, 3U);
}

TEST(Statistics, OfNothingAreNothing) {
  const std::vector<float> samples = {nan, nan};
  EXPECT_TRUE(std::isnan(median(samples)));
  EXPECT_TRUE(std::isnan(robust_spread(samples).sigma));
  EXPECT_TRUE(std::isnan(sigma_clip(samples).median));
  EXPECT_EQ(sigma_clip(samples).count, 0U);
}

TEST(Statistics, RobustSpreadOfNormalSamplesIsTheirSigma) {
  // the error of a scaled MAD is 1.17 sigma / sqrt(n): 0.6 % of 40,000 samples, here three of it
  const Spread spread = robust_spread(normal_samples(40000, 5, 2));
  EXPECT_NEAR(spread.median, 5, 0.04);
  EXPECT_NEAR(spread.sigma, 2, 0.036);
}

TEST(Statistics, SigmaClipForgetsTheStars) {
  std::vector<float> samples = normal_samples(40000, 100, 3);
  for (std::size_t i = 0; i < samples.size(); i += 50) samples[i] += 5000;  // 2 % of the pixels
  const Clipped clipped = sigma_clip(samples);
  // 3 sigma / sqrt(n) = 0.045; cutting at 3 sigma narrows sigma by 1.3 %
  EXPECT_NEAR(clipped.mean, 100, 0.045);
  EXPECT_NEAR(clipped.sigma, 3 * 0.987, 0.035);
  EXPECT_NEAR(static_cast<double>(clipped.count), 39200 * 0.9973, 60);
}

TEST(Statistics, SigmaClipOfAConstantIsTheConstant) {
  const Clipped clipped = sigma_clip(std::vector<float>(100, 0.25F));
  EXPECT_EQ(clipped.median, 0.25F);
  EXPECT_EQ(clipped.sigma, 0);
  EXPECT_EQ(clipped.count, 100U);
}

}  // namespace
}  // namespace limpid
