#include "train/loss.h"

#include <gtest/gtest.h>

#include <cmath>

#include "nn/architecture.h"

namespace limpid {
namespace {

TrainOptions plain_options() {
  TrainOptions o;
  o.relative_weight = o.flux_weight = o.slope_weight = o.large_error_weight = 0;
  return o;
}

torch::Tensor flat(double value, int scenes = 1) {
  return torch::full({scenes, 3 * block_area, 4, 4}, value);
}

TEST(Loss, OfARightAnswerIsNothing) {
  torch::manual_seed(1);
  const auto target = torch::randn({2, 3 * block_area, 4, 4}) * 100;
  const auto losses = scene_losses(target, target, TrainOptions{});
  EXPECT_EQ(losses.numel(), 2);
  EXPECT_EQ(losses.abs().max().item<float>(), 0.0F);
}

TEST(Loss, BrightLightIsForgivenInProportion) {
  TrainOptions o = plain_options();
  o.relative_weight = 0.01;
  // 1 % of 1e6 is 1e4: an error of that size is one unit, as an error of the noise in the dark
  EXPECT_NEAR(scene_losses(flat(1.01e6), flat(1e6), o).item<double>(), 1, 1e-3);
  EXPECT_NEAR(scene_losses(flat(1), flat(0), o).item<double>(), 1, 1e-6);
}

TEST(Loss, LargeErrorsCountByTheirSquareUpToFourUnits) {
  TrainOptions o = plain_options();
  o.large_error_weight = 2;
  // Huber: x^2 / 2 up to 4, then 4 x - 8; and |x| besides
  EXPECT_NEAR(scene_losses(flat(0.5), flat(0), o).item<double>(), 0.5 + 0.25, 1e-6);
  EXPECT_NEAR(scene_losses(flat(10), flat(0), o).item<double>(), 10 + 2 * 32, 1e-4);
}

TEST(Loss, SlopeSeesTheEdgesOfBlocksAndNotTheirLevel) {
  TrainOptions o = plain_options();
  o.slope_weight = 2;
  const double level = scene_losses(flat(1), flat(0), o).item<double>();
  auto answer = torch::zeros({1, 3 * block_area, 4, 4});
  answer.narrow(3, 2, 2).fill_(1);  // the right half, two blocks wide
  // one of 15 columns of differences is 1; and half of the pixels are wrong by one
  const double step = scene_losses(answer, flat(0), o).item<double>();
  EXPECT_NEAR(level, 1, 1e-6);
  EXPECT_NEAR(step, 0.5 + 1.0 / 15, 1e-6);
}

TEST(Loss, FluxOfLargerBlocksCountsWhenAsked) {
  TrainOptions one = plain_options(), three = plain_options();
  one.flux_weight = three.flux_weight = 1;
  three.flux_levels = 3;
  // a level of 1: 4 x 4 pixels know their mean to 1/4, so it is four units, divided by the side
  EXPECT_NEAR(scene_losses(flat(1), flat(0), one).item<double>(), 1 + 1, 1e-5);
  EXPECT_NEAR(scene_losses(flat(1), flat(0), three).item<double>(), 1 + 3, 1e-5);
}

TEST(Loss, WithAFloorOneHopelessSceneDoesNotDrownTheOthers) {
  const auto losses = torch::tensor({0.1, 0.1, 0.1, 1000.0}).set_requires_grad(true);
  EXPECT_NEAR(over_scenes(losses, 0).item<double>(), 250.075, 1e-2);
  EXPECT_NEAR(over_scenes(losses, 0.01).item<double>(),
              std::pow(0.11 * 0.11 * 0.11 * 1000.01, 0.25), 1e-4);
  over_scenes(losses, 0.01).log().backward();
  const auto pull = losses.grad();
  EXPECT_GT(pull[0].item<double>(), 1000 * pull[3].item<double>());
}

}  // namespace
}  // namespace limpid
