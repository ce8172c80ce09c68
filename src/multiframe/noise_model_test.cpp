#include "multiframe/noise_model.h"

#include <cmath>
#include <complex>
#include <random>

#include <gtest/gtest.h>

namespace limpid::multiframe {
namespace {

TEST(NoiseModel, FindsSkyShotNoiseAndMisfit) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform(0, 1);
  ResidualStatistics statistics;
  constexpr float floor = 1.44F, shot = 0.3F, misfit = 0.05F;
  for (int i = 0; i < 200000; ++i) {
    const float light = i % 2 == 0 ? 0 : 2 * std::pow(2000.0F, uniform(random));
    const float variance = floor + shot * light + misfit * misfit * light * light;
    const std::int32_t slot = ResidualStatistics::slot(light, std::sqrt(variance) * normal(random));
    statistics.add({&slot, 1});
  }
  const NoiseModel model = statistics.fit({});
  EXPECT_NEAR(model.floor, floor, 0.05F);
  // shares of an octave are summed up with its middle: some per cent
  EXPECT_NEAR(model.shot, shot, 0.1F);
  EXPECT_NEAR(model.misfit, misfit, 0.01F);
  EXPECT_NEAR(statistics.sky_sigma(), 1.2F, 0.02F);
}

TEST(NoiseModel, StaysAsItWasWithoutData) {
  const NoiseModel model = ResidualStatistics{}.fit({1.3F, 0.2F, 0.4F});
  EXPECT_EQ(model.floor, 1.3F);
  EXPECT_EQ(model.misfit, 0.4F);
}

/// Weight of a residual of `residual` sigmas on the sky.
float weight_of(float residual, const Weighting& weighting) {
  const float sigma = 1, observed = 100 + residual;
  const float predicted = 100;
  std::complex<float> weighed;
  weigh_row({{&observed, 1}, {&sigma, 1}, {}, {1, 0, 0}}, weighting, {&predicted, 1},
            {&weighed, 1});
  EXPECT_NEAR(weighed.real(), weighed.imag() / predicted * observed, 1e-3F);
  return weighed.imag() / predicted;
}

TEST(NoiseModel, HuberWeighsLinearlyBeyondDeltaAndRejectsFarOut) {
  Weighting weighting;
  weighting.pedestal = 100;
  EXPECT_NEAR(weight_of(1, weighting), 1, 1e-4F);
  EXPECT_NEAR(weight_of(-2.4F, weighting), 1, 1e-4F);
  EXPECT_NEAR(weight_of(5, weighting), 0.5F, 1e-3F);  // delta / |r|
  EXPECT_EQ(weight_of(6.5F, weighting), 0);
  weighting.reject_sigma = 0;
  EXPECT_NEAR(weight_of(25, weighting), 0.1F, 1e-3F);
  weighting.huber = false;
  EXPECT_NEAR(weight_of(25, weighting), 1, 1e-4F);
  weighting.huber = weighting.absolute = true;
  weighting.delta = 0.5F;
  EXPECT_NEAR(weight_of(5, weighting), 0.1F, 1e-3F);
}

TEST(NoiseModel, PixelsWithoutDataWeighNothing) {
  const float sigma = 1, observed = std::nanf("");
  const float predicted = 100;
  std::complex<float> weighed(7, 7);
  Weighting weighting;
  weighting.pedestal = 5;
  weigh_row({{&observed, 1}, {&sigma, 1}, {}, {}}, weighting, {&predicted, 1}, {&weighed, 1});
  EXPECT_EQ(weighed, std::complex<float>());
}

}  // namespace
}  // namespace limpid::multiframe
