#include "restore/consistency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "synthetic.h"

namespace limpid {
namespace {

constexpr Psf recorded{3.4F, 3.0F, 0.15F, 0.05F, 0, 0}, wanted{2.55F, 3.0F, 0, 0, 0, 0},
    made{2.7F, 3.0F, 0.08F, -0.03F, 0, 0};
constexpr float sigma = 0.001F;
constexpr Size size{160, 140};

/// A frame, the result of a network whose stars are too wide, oblong and off their places, and the
/// right result.
struct Scene {
  Image before{3, size, 0.1F}, after{3, size, 0.1F}, right{3, size, 0.1F};
  StarCatalogue catalogue{{}, std::vector<SkyLevel>(3, SkyLevel{0.1F, sigma}), {}, size};
  Psf known = recorded;

  Star& add(float x, float y, float flux, const Psf& network = made, float off = 0.06F) {
    for (int c = 0; c < 3; ++c) {
      const float light = flux * (1 + 0.3F * static_cast<float>(c));
      synthetic::add_star(before.view(), recorded, {x, y, light}, c);
      synthetic::add_star(after.view(), network, {x + off, y - off, light}, c);
      synthetic::add_star(right.view(), wanted, {x, y, light}, c);
    }
    Star star;
    star.x = x, star.y = y, star.flux = 3.9F * flux, star.snr = 200;
    return catalogue.stars.emplace_back(star);
  }
  void add_noise() {
    Image noise(3, size);
    synthetic::add_noise(noise.view(), sigma, 0, 0, 5);
    for (Image* image : {&before, &after, &right}) {
      for (std::size_t i = 0; i < noise.pixels().size(); ++i)
        image->pixels()[i] += noise.pixels()[i];
    }
  }
  int correct(Rect part = {0, 0, size.width, size.height}, int threads = 2) {
    after = copy(after.view().crop(part));
    const auto controls_at = [this](float, float) {
      TileControls controls;  // S is 0.25
      controls.measured = {known, known, known};
      controls.nonstellar = controls.measured;
      return controls;
    };
    return make_consistent({.before = before.view(),
                            .part = part,
                            .catalogue = catalogue,
                            .fwhm_px = known.fwhm_px,
                            .threads = threads},
                           {}, controls_at, after.view());
  }
  /// Root of the squares of what is wrong within 6 px, over those of the right star.
  [[nodiscard]] double error(float x, float y, int channel) const {
    double wrong = 0, all = 0;
    for (int j = -6; j <= 6; ++j) {
      for (int i = -6; i <= 6; ++i) {
        const int px = static_cast<int>(std::lround(x)) + i,
                  py = static_cast<int>(std::lround(y)) + j;
        const auto light = static_cast<double>(right.view()(channel, py, px));
        const double d = static_cast<double>(after.view()(channel, py, px)) - light;
        wrong += d * d;
        all += (light - 0.1) * (light - 0.1);
      }
    }
    return std::sqrt(wrong / all);
  }
};

TEST(Consistency, StarsBecomeWhatTheRecordSays) {
  Scene scene;
  scene.add(40.3F, 50.8F, 3);
  scene.add(110.6F, 80.1F, 0.5F);
  scene.add_noise();
  EXPECT_GT(scene.error(40.3F, 50.8F, 1), 0.08);
  EXPECT_EQ(scene.correct(), 2);
  for (int c = 0; c < 3; ++c) {
    EXPECT_LT(scene.error(40.3F, 50.8F, c), 0.035) << c;
    EXPECT_LT(scene.error(110.6F, 80.1F, c), 0.05) << c;  // with the noise of its own
  }
}

TEST(Consistency, SharpStarsBetweenPixelsToo) {
  Scene scene;
  scene.known = {1.9F, 3.0F, 0.1F, 0, 0, 0};
  const Psf sharp{1.425F, 3.0F, 0, 0, 0, 0}, network{1.5F, 3.0F, 0.08F, 0, 0, 0};
  for (int c = 0; c < 3; ++c) {
    synthetic::add_star(scene.before.view(), scene.known, {60.45F, 70.4F, 3}, c);
    synthetic::add_star(scene.after.view(), network, {60.48F, 70.4F, 3}, c);
    synthetic::add_star(scene.right.view(), sharp, {60.45F, 70.4F, 3}, c);
  }
  Star star;
  star.x = 60.45F, star.y = 70.4F, star.flux = 9, star.snr = 200;
  scene.catalogue.stars.push_back(star);
  scene.add_noise();
  const double before = scene.error(60.45F, 70.4F, 0);
  scene.correct();
  EXPECT_LT(scene.error(60.45F, 70.4F, 0), 0.5 * before);
}

TEST(Consistency, WhatIsRightStays) {
  Scene scene;
  scene.add(40.3F, 50.8F, 3, wanted, 0);
  scene.add(110.6F, 80.1F, 0.5F, wanted, 0);
  scene.add_noise();
  scene.correct();
  EXPECT_LT(scene.error(40.3F, 50.8F, 1), 0.01);
  EXPECT_LT(scene.error(110.6F, 80.1F, 1), 0.035);
}

TEST(Consistency, TheCrestOfAGalaxyIsNoStar) {
  Scene scene;
  for (Image* image : {&scene.before, &scene.after, &scene.right}) {
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
          const float along = static_cast<float>(x - 80 + y - 70) / 45,
                      across = static_cast<float>(x - 80 - y + 70) / 9;
          image->view()(c, y, x) +=
              40 * sigma * std::exp(-0.5F * (along * along + across * across));
        }
      }
    }
  }
  Star detected;  // with too little of a star for a fit
  detected.x = 80.2F, detected.y = 70.1F, detected.flux = 1, detected.snr = 11;
  scene.catalogue.stars.push_back(detected);
  scene.add_noise();
  scene.correct();
  for (int y = 64; y <= 76; ++y) {
    for (int x = 74; x <= 86; ++x)
      ASSERT_NEAR(scene.after.view()(1, y, x), scene.right.view()(1, y, x), 8 * sigma)
          << x << ", " << y;
  }
}

TEST(Consistency, LightIsThatOfTheRecord) {
  Scene scene;
  scene.add(60.3F, 60.8F, 3, wanted, 0);
  for (float& value : scene.after.pixels()) value = 0.1F + 0.9F * (value - 0.1F);
  scene.add_noise();
  scene.correct();
  double found = 0, light = 0;
  for (int y = 50; y < 72; ++y) {
    for (int x = 50; x < 72; ++x) {
      found += static_cast<double>(scene.after.view()(0, y, x)) - 0.1;
      light += static_cast<double>(scene.right.view()(0, y, x)) - 0.1;
    }
  }
  EXPECT_NEAR(found / light, 1, 0.03);  // the wings are left as they were, a tenth too faint
}

TEST(Consistency, APointIsRoundThoughThePsfIsNotKnownSoWell) {
  Scene scene;
  scene.known.e1 -= 0.02F;  // as badly as few stars tell it
  scene.known.fwhm_px *= 1.01F;
  scene.add(40.3F, 50.8F, 3);
  scene.add(110.6F, 80.1F, 0.5F);
  scene.add_noise();
  scene.correct();
  EXPECT_LT(scene.error(40.3F, 50.8F, 1), 0.03);  // of which the wider PSF, wanted so, makes 0.01
  EXPECT_LT(scene.error(110.6F, 80.1F, 1), 0.05);
}

TEST(Consistency, WhatIsNoPointKeepsItsShape) {
  Scene scene;
  const Psf galaxy{4.6F, 3, 0.3F, 0, 0, 0}, sharp{4.0F, 3, 0.35F, 0, 0, 0};
  for (int c = 0; c < 3; ++c) {
    synthetic::add_star(scene.before.view(), galaxy, {60, 70, 3}, c);
    synthetic::add_star(scene.after.view(), sharp, {60, 70, 3}, c);
  }
  Star object;
  object.x = 60, object.y = 70, object.flux = 9, object.snr = 200;
  scene.catalogue.stars.push_back(object);
  scene.add_noise();
  scene.correct();
  // the wanted PSF would be half as high along its major axis, and a sixth at this distance
  const auto over = [&](int x, int y) {
    return static_cast<double>(scene.after.view()(1, y, x)) - 0.1;
  };
  EXPECT_GT(over(63, 70) / over(60, 70), 1.4 * over(60, 73) / over(60, 70));
}

TEST(Consistency, AWrongPsfMakesNoHole) {
  Scene scene;
  scene.known.fwhm_px = 4.6F;  // the record seems far too sharp
  scene.add(60.3F, 60.8F, 20, wanted, 0);
  scene.add_noise();
  scene.correct();
  const float peak = 20 * 0.13F;
  for (const float value : scene.after.pixels()) EXPECT_GT(value, 0.1F - 0.01F * peak);
}

TEST(Consistency, ClippedFaintAndCrowdedStarsStay) {
  Scene scene;
  scene.add(40.3F, 50.8F, 3).saturated = true;
  scene.add(110.6F, 80.1F, 0.01F).snr = 5;
  scene.add(60.6F, 100.1F, 1);
  scene.add(63.6F, 101.1F, 1);
  scene.add(3, 20, 1);  // cut
  scene.add_noise();
  const Image as_it_was = scene.after.clone();
  scene.correct();
  EXPECT_TRUE(std::ranges::equal(as_it_was.pixels(), scene.after.pixels()));
}

TEST(Consistency, SameForAnyThreadsAndForAPart) {
  Scene scene, other, part;
  for (Scene* s : {&scene, &other, &part}) {
    s->add(60.3F, 60.8F, 3);
    s->add(75.2F, 66.4F, 1);
    s->add_noise();
  }
  scene.correct({0, 0, size.width, size.height}, 1);
  other.correct({0, 0, size.width, size.height}, 3);
  EXPECT_TRUE(std::ranges::equal(scene.after.pixels(), other.after.pixels()));
  const Rect window{20, 20, 100, 90};
  part.correct(window);
  const Image same = copy(scene.after.view().crop({50, 50, 30, 25})),
              cut = copy(part.after.view().crop({30, 30, 30, 25}));
  for (std::size_t i = 0; i < same.pixels().size(); ++i)
    ASSERT_NEAR(same.pixels()[i], cut.pixels()[i], 1e-5F) << i;
}

}  // namespace
}  // namespace limpid
