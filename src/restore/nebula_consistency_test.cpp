#include "restore/nebula_consistency.h"

#include <gtest/gtest.h>

#include <cmath>

#include "restore/nebula_test.h"
#include "synthetic.h"

namespace limpid {
namespace {

constexpr Size size{320, 256};
constexpr float sky = 0.1F, sigma = 0.001F;

/// Round lights with ripples, 60 sigma high.
Image nebula() {
  Image light(1, size);
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      const float r2 = std::pow(static_cast<float>(x - 150) / 30, 2.0F) +
                       std::pow(static_cast<float>(y - 120) / 25, 2.0F);
      light.view()(0, y, x) =
          0.06F * std::exp(-0.5F * r2) * (1 + 0.2F * std::sin(static_cast<float>(x + y) / 5));
    }
  }
  return light;
}

/// What a frame records of a light, and the right answer to it, with the same noise.
struct Scene {
  TileControls controls;
  StarCatalogue catalogue;
  Image before{1, size, sky}, right{1, size, sky};

  explicit Scene(const Image& light) {
    controls.measured.fill({3.2F, 3.5F, 0.08F, -0.05F, 0, 0});
    controls.nonstellar = controls.measured;
    controls.mono = true;
    controls.sharpen_nonstellar = 0.9F;
    catalogue.frame = size;
    catalogue.sky = {{sky, sigma}};
    const Image soft = blurred(light, controls.measured[0]),
                sharp = blurred(light, wanted_psfs(controls).nonstellar);
    Image noise(1, size, sky);
    synthetic::add_noise(noise.view(), sigma, 0, sky, 3);
    for (std::size_t i = 0; i < size.pixels(); ++i) {
      before.pixels()[i] = noise.pixels()[i] + soft.pixels()[i];
      right.pixels()[i] = noise.pixels()[i] + sharp.pixels()[i];
    }
  }
  double agree(Image& after, int threads = 2) const {
    return make_nebulae_consistent(
        {.before = before.view(),
         .part = {0, 0, size.width, size.height},
         .catalogue = catalogue,
         .fwhm_px = 3.2F,
         .threads = threads},
        {catalogue.sky, {0}, 1}, [this](float, float) { return controls; }, after.view());
  }
};

double rms(const Image& a, const Image& b, Rect where) {
  double sum = 0;
  for (int y = where.y; y < where.y + where.height; ++y) {
    for (int x = where.x; x < where.x + where.width; ++x)
      sum += std::pow(static_cast<double>(a.view()(0, y, x) - b.view()(0, y, x)), 2.0);
  }
  return std::sqrt(sum / static_cast<double>(where.size().pixels())) / static_cast<double>(sigma);
}

constexpr Rect middle{100, 70, 100, 100}, everywhere{0, 0, size.width, size.height};

TEST(NebulaConsistency, LightThatTheResultLacksIsGivenBack) {
  const Scene scene(nebula());
  Image after = scene.right.clone();
  for (std::size_t i = 0; i < size.pixels(); ++i)
    after.pixels()[i] -= 0.1F * (scene.right.pixels()[i] - sky);
  const double wrong = rms(after, scene.right, middle);
  EXPECT_GT(scene.agree(after), 0.05);
  EXPECT_LT(rms(after, scene.right, middle), 0.5 * wrong);
}

TEST(NebulaConsistency, LightThatWasInventedIsTakenBack) {
  const Scene scene(nebula());
  Image after = scene.right.clone();
  for (int y = 30; y < 70; ++y) {
    for (int x = 240; x < 280; ++x) {
      const float r2 = std::pow(static_cast<float>(x - 260) / 4, 2.0F) +
                       std::pow(static_cast<float>(y - 50) / 4, 2.0F);
      after.view()(0, y, x) += 10 * sigma * std::exp(-0.5F * r2);
    }
  }
  constexpr Rect there{250, 40, 20, 20};
  const double wrong = rms(after, scene.right, there);
  scene.agree(after);
  EXPECT_LT(rms(after, scene.right, there), 0.6 * wrong);
}

TEST(NebulaConsistency, TheRightAnswerAndEmptySkiesStay) {
  const Scene scene(nebula()), empty(Image(1, size));
  Image after = scene.right.clone();
  scene.agree(after);
  EXPECT_LT(rms(after, scene.right, everywhere), 0.1);
  after = empty.right.clone();
  EXPECT_EQ(empty.agree(after), 0);
  EXPECT_EQ(rms(after, empty.right, everywhere), 0);
}

TEST(NebulaConsistency, NoiseThatWasSharpenedGoesBack) {
  const Scene scene(nebula());
  // what a filter does that takes all of the noise for light
  const Image softer = blurred(scene.before, scene.controls.measured[0]);
  Image after = scene.right.clone();
  for (std::size_t i = 0; i < size.pixels(); ++i)
    after.pixels()[i] += scene.before.pixels()[i] - softer.pixels()[i];
  constexpr Rect faint{30, 150, 60, 60};
  const double wrong = rms(after, scene.right, faint);
  EXPECT_GT(wrong, 0.8);
  scene.agree(after);
  EXPECT_LT(rms(after, scene.right, faint), 0.4 * wrong);
}

TEST(NebulaConsistency, LightThatWasHalfSharpenedIsSharpened) {
  Image light = nebula();
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x)
      light.view()(0, y, x) *= 1 + 0.9F * std::sin(static_cast<float>(x) * 0.9F);
  }
  const Scene scene(light);
  Image after = scene.before.clone();
  for (std::size_t i = 0; i < size.pixels(); ++i)
    after.pixels()[i] += 0.6F * (scene.right.pixels()[i] - scene.before.pixels()[i]);
  const double wrong = rms(after, scene.right, middle);
  scene.agree(after);
  EXPECT_LT(rms(after, scene.right, middle), 0.6 * wrong);
}

TEST(NebulaConsistency, AStarThatWasNotDetectedIsNotTakenForNebula) {
  Scene scene(nebula());
  const Psf drawn = wanted_psfs(scene.controls).stellar;
  const float flux = synthetic::flux_for_snr(scene.controls.measured[0], 300, sigma);
  Image after = scene.right.clone();
  synthetic::add_star(scene.before.view(), scene.controls.measured[0], {160.3F, 110.6F, flux});
  synthetic::add_star(after.view(), drawn, {160.3F, 110.6F, flux});
  const Image star = after.clone();
  scene.agree(after);
  const float peak = star.view()(0, 111, 160) - scene.right.view()(0, 111, 160);
  EXPECT_LT(rms(after, star, {150, 101, 20, 20}) * static_cast<double>(sigma),
            0.01 * static_cast<double>(peak));
}

TEST(NebulaConsistency, ADeadRowIsNotSharpened) {
  Scene scene(nebula());
  Image after = scene.right.clone();
  for (int x = 0; x < size.width; ++x)
    scene.before.view()(0, 125, x) = after.view()(0, 125, x) = sky - 20 * sigma;
  const Image network = after.clone();
  scene.agree(after);
  EXPECT_LT(rms(after, network, {0, 118, size.width, 15}), 0.3);
}

TEST(NebulaConsistency, AFrameWithoutNoiseStaysFinite) {
  Scene scene(nebula());
  scene.catalogue.sky = {{sky, 0}};
  Image after = scene.right.clone();
  for (int y = 0; y < size.height; ++y) {
    for (int x = 200; x < size.width; ++x)
      scene.before.view()(0, y, x) = after.view()(0, y, x) = sky;
  }
  scene.agree(after);
  EXPECT_TRUE(std::ranges::all_of(after.pixels(), [](float v) { return std::isfinite(v); }));
}

TEST(NebulaConsistency, BytesDoNotDependOnTheNumberOfThreads) {
  const Scene scene(nebula());
  Image one(1, size, sky), three(1, size, sky);
  scene.agree(one, 1);
  scene.agree(three, 3);
  EXPECT_TRUE(std::ranges::equal(one.pixels(), three.pixels()));
}

}  // namespace
}  // namespace limpid
