#include "train/recording.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

SceneOptions quiet(Recording recording) {
  SceneOptions options;
  options.side_px = 128;
  options.aberration = Aberration::none;
  options.recording = recording;
  options.fwhm_px = 3;
  options.mono = false;
  options.sky_misjudged = false;
  options.perturb_measurement = false;
  return options;
}

double correlation(const torch::Tensor& a, const torch::Tensor& b) {
  const auto x = a - a.mean(), y = b - b.mean();
  return ((x * y).mean() / (x.square().mean() * y.square().mean()).sqrt()).item<double>();
}

TEST(Recording, PlainScenesAreWhatTheyWereWithoutTheOtherKinds) {
  const SceneSimulator simulator({}, false, 3, 2, 1);
  int plain = 0, special = 0;
  for (std::uint64_t index = 0; index < 24; ++index) {
    SceneOptions options{.side_px = 32};
    const SceneTensors drawn = simulator.draw_tensors(index, options);
    options.recording = Recording::plain;
    const SceneTensors forced = simulator.draw_tensors(index, options);
    if (drawn.recording == Recording::plain) {
      ++plain;
      EXPECT_TRUE(torch::equal(drawn.input, forced.input));
      EXPECT_TRUE(torch::equal(drawn.target, forced.target));
    } else {
      ++special;
    }
    EXPECT_TRUE(torch::isfinite(drawn.input).all().item<bool>()) << name(drawn.recording);
    EXPECT_TRUE(torch::isfinite(drawn.target).all().item<bool>()) << name(drawn.recording);
  }
  EXPECT_GT(plain, special);
  EXPECT_GT(special, 0);
}

TEST(Recording, DrizzleWidensThePsfAndCorrelatesTheNoise) {
  Random random(1);
  for (const auto& [drop, expected] : {std::pair{0.5, 0.28}, std::pair{1.0, 0.67}}) {
    const auto noise = drizzled_noise(random, 1, 256, 256, drop);
    EXPECT_NEAR(noise.square().mean().item<double>(), 1, 0.01);
    // [a, 1 - 2a, a] has 2a(1 - 2a) / (1 - 4a + 6a^2) between neighbours; 65,000 samples
    EXPECT_NEAR(correlation(noise, noise.roll(1, 2)), expected, 0.02) << drop;
  }
  Psf round;
  round.fwhm_px = 3;
  round.beta = 4;
  BankPsf psf;
  psf.here = oversampled_moffat(round).unsqueeze(0).expand({3, -1, -1}).contiguous();
  psf.described.fill(round);
  const auto wider = drizzled(psf, 1);
  ASSERT_TRUE(wider);
  // the slow way: two fine pixels half a pixel to either side, then the mean over drops of two
  auto slow = psf.here[0];
  for (const std::int64_t axis : {0, 1}) {
    slow = (slow.roll(2, axis) + slow.roll(-2, axis)) / 2;
    auto drops = (slow.roll(4, axis) + slow.roll(-4, axis)) / 2;
    for (int shift = -3; shift <= 3; ++shift) drops = drops + slow.roll(shift, axis);
    slow = drops / 8;
  }
  const auto expected = describe_psf(slow);
  ASSERT_TRUE(expected);
  EXPECT_GT(expected->fwhm_px, 3.4);
  EXPECT_NEAR(wider->described[1].fwhm_px, expected->fwhm_px, 0.02);  // nine samples for a square
  EXPECT_NEAR(wider->described[1].dx, 0, 0.01);
  EXPECT_NEAR(central_phase(wider->here[0]).sum().item<double>(), 1, 0.01);
}

TEST(Recording, ClippedStarsReachFarOverFullScale) {
  const SceneSimulator simulator({}, false, 3, 0, 1);
  SceneOptions options = quiet(Recording::clipped);
  options.isolated_stars = true;  // some lie in the inner frame for certain
  const SceneTensors scene = simulator.draw_tensors(2, options);
  ASSERT_GT(scene.saturation_level, 0);
  int clipped = 0;
  for (const SimulatedStar& star : scene.stars) clipped += star.saturated ? 1 : 0;
  EXPECT_GT(clipped, 0);
  EXPECT_GT(scene.blurred.amax().item<double>(), scene.saturation_level);
  EXPECT_NEAR(scene.input.amax().item<double>() / scene.saturation_level, 1, 1e-5);
  EXPECT_GT(scene.saturated.sum().item<double>(), 0);
}

TEST(Recording, ADenseClusterHasOneStarInTwentyPixels) {
  const SceneSimulator simulator({}, false, 3, 0, 1);
  const SceneTensors scene = simulator.draw_tensors(3, quiet(Recording::cluster));
  const double density = static_cast<double>(scene.stars.size()) / (128.0 * 128.0);
  // the inner frame holds more of the cluster than the margin around it
  EXPECT_GT(density, 0.045);
  EXPECT_LT(density, 0.09);
}

TEST(Recording, AGalaxyComesWithHardlyAStar) {
  const SceneSimulator simulator({}, false, 3, 0, 1);
  SceneOptions options = quiet(Recording::galaxy);
  options.nebula_peak = 200;
  const SceneTensors scene = simulator.draw_tensors(4, options);
  EXPECT_LE(scene.stars.size(), 4U);
  // bright in the middle, dark around
  const auto middle = scene.ideal.narrow(1, 76, 40).narrow(2, 76, 40).mean().item<double>();
  const auto corner = scene.ideal.narrow(1, 0, 40).narrow(2, 0, 40).mean().item<double>();
  EXPECT_GT(middle, 3 * corner);
}

TEST(Recording, NarrowBandsAreUnlike) {
  const SceneSimulator simulator({}, false, 3, 0, 1);
  double broad = 0, narrow = 0;
  for (std::uint64_t index = 0; index < 6; ++index) {
    SceneOptions options = quiet(Recording::narrowband);
    options.nebula = true;
    options.stars = 0;
    const auto bands = simulator.draw_tensors(index, options).ideal;
    options.recording = Recording::plain;
    const auto colours = simulator.draw_tensors(index, options).ideal;
    narrow += correlation(bands[0], bands[2]) / 6;
    broad += correlation(colours[0], colours[2]) / 6;
  }
  EXPECT_GT(broad, 0.7);
  EXPECT_LT(narrow, 0.4);
}

TEST(Recording, AStretchKeepsTheSkyAndPressesTheBrightTogether) {
  const Stretch stretch{0.2, 30, 2000};
  const auto x = torch::tensor({-3.0F, 0.0F, 3.0F, 200.0F, 2000.0F});
  const auto y = stretch.apply(x);
  const float* v = y.data_ptr<float>();
  EXPECT_NEAR(v[1], 0, 1e-4);
  // slope one at the sky; the curve's second derivative moves three sigma by about a hundredth
  EXPECT_NEAR(v[2], 3, 0.05);
  EXPECT_NEAR(v[0], -3, 0.05);
  EXPECT_LT(v[3], 170);
  EXPECT_GT(v[3], v[2]);
  EXPECT_LT(v[4], 1000);
  const Stretch straight{0.5, 30, 2000};
  EXPECT_TRUE(torch::allclose(straight.apply(x), x, 1e-4, 1e-2));
  Psf round;
  round.fwhm_px = 3;
  round.beta = 4;
  const double wider = stretch.widening(oversampled_moffat(round), 300);
  EXPECT_GT(wider, 1.01);
  EXPECT_LT(wider, 1.3);
}

}  // namespace
}  // namespace limpid
