#include "restore/halos.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "synthetic.h"

namespace limpid {
namespace {

constexpr float sigma = 0.001F, fwhm = 3;
constexpr Psf core{fwhm, 3.0F, 0, 0, 0, 0}, wanted{2.25F, 3.0F, 0, 0, 0, 0};
constexpr Size size{160, 160};

/// A star of 5000 times the noise with a halo wider than any Moffat, which a network took away
/// beyond 12 px; in it a faint star.
struct Scene {
  Image before{1, size, 0.1F}, after{1, size, 0.1F};
  StarCatalogue catalogue{{}, {{0.1F, sigma}}, {}, size};

  Scene() {
    synthetic::add_star(before.view(), core, {80, 80, 60}, 0);
    synthetic::add_star(after.view(), wanted, {80, 80, 60}, 0);
    synthetic::add_star(before.view(), core, {96, 80, 0.5F}, 0);
    synthetic::add_star(after.view(), wanted, {96, 80, 0.5F}, 0);
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        const float away = std::hypot(static_cast<float>(x) - 80, static_cast<float>(y) - 80);
        const float halo = 0.08F * std::exp(-away / 9),
                    nebula = 0.001F * std::sin(0.9F * static_cast<float>(x));
        before.view()(0, y, x) += halo + nebula;
        after.view()(0, y, x) += away < 12 ? halo : away < 18 ? -0.01F : 2 * nebula;
      }
    }
    Star bright, faint;
    bright.x = 80, bright.y = 80, bright.flux = 60, bright.peak = 5, bright.snr = 5000;
    faint.x = 96, faint.y = 80, faint.flux = 0.5F, faint.peak = 0.04F, faint.snr = 30;
    catalogue.stars = {bright, faint};
    Image noise(1, size);
    synthetic::add_noise(noise.view(), sigma, 0, 0, 5);
    for (Image* image : {&before, &after}) {
      for (std::size_t i = 0; i < noise.pixels().size(); ++i)
        image->pixels()[i] += noise.pixels()[i];
    }
  }
  int keep(Rect part = {0, 0, size.width, size.height}, int threads = 2) {
    after = copy(after.view().crop(part));
    return keep_halos({before.view(), part, catalogue, fwhm, threads}, after.view());
  }
};

TEST(Halos, BeyondTheCoreTheRecordStays) {
  Scene scene;
  EXPECT_EQ(scene.keep(), 1);
  for (const int x : {64, 66, 68}) {  // 12 to 16 px to the left
    EXPECT_NEAR(scene.after.view()(0, 80, x), scene.before.view()(0, 80, x), 0.002F) << x;
  }
}

TEST(Halos, TheCoreAndFaintStarsInTheHaloStayRestored) {
  Scene scene;
  const Image as_it_was = scene.after.clone();
  scene.keep();
  for (const auto& [x, y] : {std::pair{80, 80}, {82, 81}, {78, 79}, {96, 80}}) {
    EXPECT_NEAR(scene.after.view()(0, y, x), as_it_was.view()(0, y, x), 0.02F) << x;
  }
}

TEST(Halos, NothingIsDarkerThanTheHaloFurtherOut) {
  Scene scene;
  for (int y = 70; y < 91; ++y) {
    for (int x = 70; x < 91; ++x) {
      const float away = std::hypot(static_cast<float>(x) - 80, static_cast<float>(y) - 80);
      if (away > 6 && away < 9) scene.after.view()(0, y, x) = 0.08F;  // a dark ring
    }
  }
  scene.keep();
  const float outside = scene.before.view()(0, 80, 69);
  for (int x = 71; x < 75; ++x) EXPECT_GT(scene.after.view()(0, 80, x), outside - 0.01F) << x;
}

TEST(Halos, FarAwayNothingChanges) {
  Scene scene;
  const Image as_it_was = scene.after.clone();
  scene.keep();
  for (int y = 0; y < 25; ++y) {
    for (int x = 0; x < 160; ++x)
      ASSERT_EQ(scene.after.view()(0, y, x), as_it_was.view()(0, y, x)) << x << ' ' << y;
  }
}

TEST(Halos, DarkPatchesBesideAStarOfModerateBrightnessAreRaised) {
  Scene scene;
  scene.catalogue.stars[0].peak = 0.1F;  // 100 times the noise
  scene.before = Image(1, size, 0.1F);
  scene.after = Image(1, size, 0.1F);
  for (Image* image : {&scene.before, &scene.after})
    synthetic::add_noise(image->view(), sigma, 0, 0, 7);
  for (int y = 86; y < 92; ++y) {
    for (int x = 76; x < 82; ++x) scene.after.view()(0, y, x) -= 3 * sigma;
  }
  scene.keep();
  double mean = 0;
  for (int y = 86; y < 92; ++y) {
    for (int x = 76; x < 82; ++x)
      mean += static_cast<double>(scene.after.view()(0, y, x) - scene.before.view()(0, y, x)) / 36;
  }
  EXPECT_GT(mean, -1.5 * static_cast<double>(sigma)) << "it was 3";
}

TEST(Halos, SameForAnyThreads) {
  Scene one, three;
  one.keep({0, 0, size.width, size.height}, 1);
  three.keep({0, 0, size.width, size.height}, 3);
  EXPECT_TRUE(std::ranges::equal(one.after.pixels(), three.after.pixels()));
}

TEST(Halos, CrowdedStarsAreTheSameForAnyThreads) {
  const auto crowd = [] {
    Scene scene;
    scene.before = Image(1, size, 0.1F);
    scene.after = Image(1, size, 0.1F);
    for (Image* image : {&scene.before, &scene.after})
      synthetic::add_noise(image->view(), sigma, 0, 0, image == &scene.before ? 7 : 8);
    scene.catalogue.stars.resize(60, scene.catalogue.stars[0]);
    for (std::size_t i = 0; i < 60; ++i) {
      Star& star = scene.catalogue.stars[i];
      star.peak = 0.1F;  // 100 times the noise
      star.x = static_cast<float>(10 + i * 37 % 140);
      star.y = static_cast<float>(10 + i * 53 % 140);
    }
    for (int y = 20; y < 140; y += 12) {
      for (int x = 20; x < 140; ++x) scene.after.view()(0, y, x) -= 4 * sigma;
    }
    return scene;
  };
  Scene one = crowd(), three = crowd();
  const Image as_it_was = one.after.clone();
  one.keep({0, 0, size.width, size.height}, 1);
  three.keep({0, 0, size.width, size.height}, 3);
  EXPECT_FALSE(std::ranges::equal(one.after.pixels(), as_it_was.pixels()));
  EXPECT_TRUE(std::ranges::equal(one.after.pixels(), three.after.pixels()));
}

TEST(Halos, WithoutStarsNothing) {
  Scene scene;
  scene.catalogue.stars.clear();
  EXPECT_EQ(scene.keep(), 0);
}

}  // namespace
}  // namespace limpid
