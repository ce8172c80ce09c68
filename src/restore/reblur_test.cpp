#include "restore/reblur.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "restore/nebula_test.h"
#include "synthetic.h"

namespace limpid {
namespace {

constexpr Size size{400, 320};
constexpr float sky = 0.1F, sigma = 0.001F;
constexpr float electrons = 5e4F;  // per unit of light
constexpr std::array<float, 1> photon_shares{1 / electrons};

/// A frame and the right answer to it: the same stars and nebula with the PSFs asked for, the same
/// noise.
struct Scene {
  TileControls controls;
  WantedPsfs wanted;
  Image before{1, size, sky}, after{1, size, sky};
  StarCatalogue catalogue;
};

Scene make_scene() {
  Scene scene;
  scene.controls.measured.fill({3.2F, 3.5F, 0.08F, -0.05F, 0, 0});
  scene.controls.nonstellar = scene.controls.measured;
  scene.controls.mono = true;
  scene.controls.sharpen_stars = 0.25F;
  scene.controls.sharpen_nonstellar = 0.9F;
  scene.wanted = wanted_psfs(scene.controls);
  Image nebula(1, size);
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      nebula.view()(0, y, x) =
          0.02F *
          std::exp(-0.5F * (std::pow(static_cast<float>(x - 130) / 40, 2.0F) +
                            std::pow(static_cast<float>(y - 150) / 25, 2.0F))) *
          (1 + 0.3F * std::sin(static_cast<float>(x + y) / 3));
    }
  }
  const Image soft = blurred(nebula, scene.controls.measured[0]),
              sharp = blurred(nebula, scene.wanted.nonstellar);
  for (std::size_t i = 0; i < size.pixels(); ++i) {
    scene.before.pixels()[i] += soft.pixels()[i];
    scene.after.pixels()[i] += sharp.pixels()[i];
  }
  int i = 0;
  for (const float x : {60.3F, 250.8F, 340.1F}) {
    for (const float y : {50.2F, 160.7F, 270.4F}) {
      const float flux = synthetic::flux_for_snr(
          scene.controls.measured[0], 20.0F * std::pow(1.6F, static_cast<float>(i++)), sigma);
      synthetic::add_star(scene.before.view(), scene.controls.measured[0], {x, y, flux});
      synthetic::add_star(scene.after.view(), scene.wanted.stellar, {x, y, flux});
    }
  }
  Image noisy = scene.before.clone();
  synthetic::add_noise(noisy.view(), sigma, electrons, sky, 3);
  for (std::size_t k = 0; k < size.pixels(); ++k)
    scene.after.pixels()[k] += noisy.pixels()[k] - scene.before.pixels()[k];
  scene.before = std::move(noisy);
  scene.catalogue = detect_stars(scene.before.view());
  return scene;
}

Reblurring tested(const Scene& scene) {
  return test_by_reblurring({.before = scene.before.view(),
                             .after = scene.after.view(),
                             .missing = {},
                             .catalogue = scene.catalogue,
                             .photon_shares = photon_shares,
                             .fwhm_px = 3.2,
                             .controls_at = [&](float, float) { return scene.controls; }},
                            2);
}

TEST(Reblur, TheRightAnswerExplainsTheFrame) {
  const Reblurring test = tested(make_scene());
  // of the noise the high frequencies are left: less than it had
  EXPECT_LT(test.report.residual_rms, 1.0);
  EXPECT_GT(test.report.residual_rms, 0.3);
  EXPECT_LT(test.report.star_residual_rms, 1.2);
  EXPECT_TRUE(test.report.doubtful.empty());
  EXPECT_EQ(test.report.tiles, 7 * 5);
}

TEST(Reblur, AnInventedStarIsFound) {
  Scene scene = make_scene();
  const float flux = synthetic::flux_for_snr(scene.wanted.stellar, 60, sigma);
  synthetic::add_star(scene.after.view(), scene.wanted.stellar, {160.0F, 250.0F, flux});
  const Reblurring test = tested(scene);
  EXPECT_GT(test.residual.view()(0, 250, 160), 8.0F);
  ASSERT_EQ(test.report.doubtful.size(), 1U);
  EXPECT_EQ(test.report.doubtful[0].tile, (Rect{128, 192, 64, 64}));
  EXPECT_FALSE(test.report.doubtful[0].clipped_star);
  Star clipped;
  clipped.x = 200, clipped.y = 255, clipped.saturated = true;
  scene.catalogue.stars.push_back(clipped);
  const Reblurring beside = tested(scene);
  ASSERT_FALSE(beside.report.doubtful.empty());
  EXPECT_TRUE(beside.report.doubtful[0].clipped_star);
}

TEST(Reblur, AStarThatLostLightIsFound) {
  Scene scene = make_scene();
  // the brightest star, which gives a tenth of its light away
  const float flux =
      synthetic::flux_for_snr(scene.controls.measured[0], 20.0F * std::pow(1.6F, 8.0F), sigma);
  synthetic::add_star(scene.after.view(), scene.wanted.stellar, {340.1F, 270.4F, -0.1F * flux});
  const Reblurring test = tested(scene);
  EXPECT_LT(test.residual.view()(0, 270, 340), -3.0F);
  EXPECT_GT(test.report.star_residual_rms, 1.5);
}

/// A knot of a nebula may be found at low S/N as if it were a star; the result is right if it is
/// as a knot.
TEST(Reblur, AKnotTakenForAFaintStarIsJudgedAsAKnot) {
  Scene scene = make_scene();
  Image knot(1, size);
  synthetic::add_star(knot.view(), {1.5F, 4, 0.2F, 0, 0, 0}, {155, 290, 2});
  const Image soft = blurred(knot, scene.controls.measured[0]),
              sharp = blurred(knot, scene.wanted.nonstellar);
  for (std::size_t i = 0; i < size.pixels(); ++i) {
    scene.before.pixels()[i] += soft.pixels()[i];
    scene.after.pixels()[i] += sharp.pixels()[i];
  }
  Star star;
  star.x = 155, star.y = 290, star.peak = 0.1F, star.snr = 8;
  scene.catalogue.stars.push_back(star);
  EXPECT_TRUE(tested(scene).report.doubtful.empty());
  scene.catalogue.stars.back().snr = 300;  // sure to be a star, whose blurring is another
  EXPECT_EQ(tested(scene).report.doubtful.size(), 1U);
}

TEST(Reblur, StarsBesideClippedPixelsAreToldApart) {
  Scene scene = make_scene();
  // the brightest star is clipped at half its height, and its light was guessed wrong
  scene.catalogue.saturation = 0.3F;
  for (std::size_t i = 0; i < size.pixels(); ++i)
    scene.before.pixels()[i] = std::min(scene.before.pixels()[i], 0.3F);
  synthetic::add_star(scene.after.view(), scene.wanted.stellar, {340.1F, 270.4F, -1});
  const auto report = tested(scene).report;
  EXPECT_GT(report.star_residual_rms, 2);
  EXPECT_LT(report.unclipped_star_residual_rms, 1.2);
}

TEST(Reblur, GapsAndClippedCoresAreLeftOut) {
  Scene scene = make_scene();
  Image missing(1, size);
  for (int y = 0; y < 30; ++y) {
    for (int x = 0; x < size.width; ++x) {
      missing.view()(0, y, x) = 1;
      scene.after.view()(0, y, x) = 1;
    }
  }
  const Reblurring test =
      test_by_reblurring({.before = scene.before.view(),
                          .after = scene.after.view(),
                          .missing = missing.view(),
                          .catalogue = scene.catalogue,
                          .photon_shares = photon_shares,
                          .fwhm_px = 3.2,
                          .controls_at = [&](float, float) { return scene.controls; }},
                         1);
  EXPECT_EQ(test.residual.view()(0, 10, 100), 0.0F);
}

}  // namespace
}  // namespace limpid
