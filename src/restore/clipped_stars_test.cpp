#include "restore/clipped_stars.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "synthetic.h"

namespace limpid {
namespace {

constexpr float sigma = 0.001F, sky = 0.1F, full_scale = 1, fwhm = 3;
constexpr Size size{120, 120};
constexpr float middle_x = 60.3F, middle_y = 59.8F;

/// A star of some ten times full scale before a sloping sky, another one beside it, and what a
/// network made of it: nothing but a square trench.
struct Scene {
  Psf measured{fwhm, 3.0F, 0.05F, -0.03F, 0, 0}, wanted;
  Image before{3, size, sky}, ideal{3, size, sky}, after{3, size, sky};
  StarCatalogue catalogue{{}, {{sky, sigma}, {sky, sigma}, {sky, sigma}}, full_scale, size};
  TileControls controls;
  std::array<float, 3> flux{150, 120, 90};

  Scene() {
    controls.measured.fill(measured);
    controls.nonstellar.fill(measured);
    wanted = wanted_psfs(controls).stellar;
    for (int c = 0; c < 3; ++c) {
      const float light = flux[static_cast<std::size_t>(c)];
      synthetic::add_star(before.view(), measured, {middle_x, middle_y, light}, c);
      synthetic::add_star(ideal.view(), wanted, {middle_x, middle_y, light}, c);
      synthetic::add_noise(before.view(), sigma, 0, c, 3);
      for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
          const float slope = 0.0004F * static_cast<float>(x - 60);
          before.view()(c, y, x) = std::min(full_scale, before.view()(c, y, x) + slope);
          ideal.view()(c, y, x) += slope;
          after.view()(c, y, x) += slope;
          if (std::max(std::abs(x - 60), std::abs(y - 60)) < 9) after.view()(c, y, x) = 0.02F;
        }
      }
    }
    Star star;
    star.x = 62, star.y = 59, star.flux = 360, star.peak = 0.9F, star.snr = 1000;  // off its middle
    star.saturated = true;
    catalogue.stars.push_back(star);
  }
  int shrink(Rect part = {0, 0, size.width, size.height}, int threads = 2) {
    after = copy(after.view().crop(part));
    return static_cast<int>(shrink_clipped_stars(
                                {before.view(), part, catalogue, fwhm, threads},
                                [&](float, float) { return controls; }, after.view())
                                .size());
  }
};

float away(int x, int y) {
  return std::hypot(static_cast<float>(x) - middle_x, static_cast<float>(y) - middle_y);
}

TEST(ClippedStars, BecomeWhatTheyWouldHaveBeenUnclipped) {
  Scene scene;
  ASSERT_EQ(scene.shrink(), 1);
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        if (away(x, y) > 8) continue;
        const float right = std::min(full_scale, scene.ideal.view()(c, y, x)),
                    is = std::min(full_scale, scene.after.view()(c, y, x));
        ASSERT_NEAR(is, right, 0.06F * (right - sky) + 0.012F) << c << ": " << x << ' ' << y;
      }
    }
  }
}

TEST(ClippedStars, NoPixelIsDarkerThanTheSkyBeside) {
  Scene scene;
  scene.shrink();
  for (int y = 52; y < 68; ++y) {
    for (int x = 52; x < 68; ++x) {
      if (away(x, y) < 8) {
        EXPECT_GT(scene.after.view()(1, y, x), sky - 0.01F) << x << ' ' << y;
      }
    }
  }
}

TEST(ClippedStars, TheCoreIsNoBrighterThanTheClippingTimesTheGain) {
  Scene scene;
  scene.shrink();
  const float gain = 1 / (0.75F * 0.75F);
  const auto pixels = scene.after.pixels();
  EXPECT_LT(*std::ranges::max_element(pixels), 1.02F * gain * full_scale);
  EXPECT_GT(scene.after.view()(1, 60, 60), full_scale);
}

TEST(ClippedStars, AnotherStarBesideItStaysTheNetworks) {
  Scene scene;
  Star other;
  other.x = 69, other.y = 60, other.flux = 3, other.peak = 0.25F, other.snr = 100;
  scene.catalogue.stars.push_back(other);
  for (int c = 0; c < 3; ++c) {
    synthetic::add_star(scene.before.view(), scene.measured, {69, 60, 3}, c);
    scene.after.view()(c, 60, 69) = 0.6F;
  }
  scene.shrink();
  EXPECT_NEAR(scene.after.view()(1, 60, 69), 0.6F, 0.02F);
}

TEST(ClippedStars, FarAwayNothingChanges) {
  Scene scene;
  const Image as_it_was = scene.after.clone();
  scene.shrink();
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      if (away(x, y) > 20) {
        ASSERT_EQ(scene.after.view()(1, y, x), as_it_was.view()(1, y, x)) << x << ' ' << y;
      }
    }
  }
}

TEST(ClippedStars, APartIsWhatItIsInTheWhole) {
  Scene whole, part;
  whole.shrink({0, 0, size.width, size.height}, 1);
  const Rect box{55, 40, 40, 50};
  part.shrink(box, 3);
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < box.height; ++y) {
      for (int x = 0; x < box.width; ++x)
        ASSERT_EQ(part.after.view()(c, y, x), whole.after.view()(c, box.y + y, box.x + x));
    }
  }
}

TEST(ClippedStars, WhatIsNoStarStays) {
  Scene scene;  // a clipped bar is like no PSF
  for (int c = 0; c < 3; ++c) {
    for (int y = 30; y < 90; ++y) {
      for (int x = 56; x < 65; ++x) scene.before.view()(c, y, x) = full_scale;
    }
  }
  const Image as_it_was = scene.after.clone();
  scene.shrink();
  EXPECT_TRUE(std::ranges::equal(scene.after.pixels(), as_it_was.pixels()));
}

TEST(ClippedStars, WithoutClippingNothing) {
  Scene scene;
  scene.catalogue.saturation.reset();
  EXPECT_EQ(scene.shrink(), 0);
}

}  // namespace
}  // namespace limpid
