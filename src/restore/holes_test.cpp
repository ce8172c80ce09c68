#include "restore/holes.h"

#include <gtest/gtest.h>

#include "synthetic.h"

namespace limpid {
namespace {

constexpr Psf psf{3.0F, 3.0F, 0, 0, 0, 0};

Image two_stars() {
  Image frame(3, {120, 100}, 0.1F);
  for (int c = 0; c < 3; ++c) {
    synthetic::add_star(frame.view(), psf, {40, 50, 20}, c);
    synthetic::add_star(frame.view(), psf, {100, 20, 1}, c);
  }
  return frame;
}
const std::vector<SkyLevel> sky(3, SkyLevel{0.1F, 0.001F});

TEST(PutBackHoles, AStarWithAHoleIsAsItWasRecorded) {
  const Image before = two_stars();
  Image after = copy(before.view());
  for (float& pixel : after.pixels()) pixel = 0.1F + 0.5F * (pixel - 0.1F);  // restored somehow
  after.view()(1, 50, 41) = 0.02F;  // in its core, in one channel
  EXPECT_EQ(put_back_holes(before.view(), after.view(), sky, 3), 1);
  for (int c = 0; c < 3; ++c) {
    for (int y = 47; y < 54; ++y) {
      for (int x = 37; x < 44; ++x) EXPECT_EQ(after.view()(c, y, x), before.view()(c, y, x));
    }
    EXPECT_FLOAT_EQ(after.view()(c, 20, 100), 0.1F + 0.5F * (before.view()(c, 20, 100) - 0.1F))
        << "the other star stays restored";
  }
}

TEST(PutBackHoles, AStarWithARingIsMixedWithTheRecordAsFarAsNeeded) {
  const Image before = two_stars();
  Image after = copy(before.view());
  for (float& pixel : after.pixels()) pixel = 0.1F + 0.5F * (pixel - 0.1F);
  const float peak = before.view()(0, 50, 40) - 0.1F, light = before.view()(0, 50, 44) - 0.1F;
  ASSERT_LT(light, 0.3F * peak) << "not in the core";
  after.view()(0, 50, 44) = 0.1F - 0.03F * peak;
  EXPECT_EQ(put_back_holes(before.view(), after.view(), sky, 3), 1);
  // no hole is deeper than a hundredth of the peak; so much of the record is everywhere in the star
  EXPECT_NEAR(after.view()(0, 50, 44), 0.1F - 0.01F * peak, 0.002F * peak);
  const float share = 0.02F * peak / (light + 0.03F * peak);
  EXPECT_NEAR(after.view()(1, 50, 40), 0.1F + (0.5F + 0.5F * share) * peak, 0.02F * peak);
}

TEST(PutBackHoles, NoiseAndNarrowStarsAreNoHoles) {
  const Image before = two_stars();
  Image after(3, {120, 100}, 0.1F);
  Psf narrow = psf;
  narrow.fwhm_px = 1.5F;
  for (int c = 0; c < 3; ++c) {
    synthetic::add_star(after.view(), narrow, {40, 50, 20}, c);
    synthetic::add_star(after.view(), narrow, {100, 20, 1}, c);
  }
  synthetic::add_noise(after.view(), 0.001F, 0, 0.1F, 3);
  const Image kept = copy(after.view());
  EXPECT_EQ(put_back_holes(before.view(), after.view(), sky, 3), 0);
  EXPECT_TRUE(std::ranges::equal(after.pixels(), kept.pixels()));
}

TEST(FillRings, ADarkRingBecomesSkyAndTheStarStaysRestored) {
  const Image before = two_stars();
  Image after = copy(before.view());
  after.view()(0, 50, 44) = 0.1F - 0.007F;  // 7 sigma under the sky beside a star of 20,000
  after.view()(0, 51, 44) = 0.1F - 0.0005F;
  Image made = copy(after.view());
  EXPECT_EQ(put_back_holes(before.view(), made.view(), sky, 3), 0) << "too shallow for a hole";
  fill_rings(before.view(), made.view(), sky, 3);
  EXPECT_NEAR(made.view()(0, 50, 44), 0.1F, 0.003F);
  for (std::size_t i = 0; i < made.pixels().size(); ++i) {
    if (made.pixels()[i] != after.pixels()[i]) {
      EXPECT_LT(after.pixels()[i], 0.1F);
    }
  }
  EXPECT_EQ(made.view()(0, 50, 40), before.view()(0, 50, 40));
}

TEST(FillRings, NoiseOfTheSkyStays) {
  const Image before = two_stars();
  Image after = copy(before.view());
  synthetic::add_noise(after.view(), 0.001F, 0, 0.1F, 3);
  Image made = copy(after.view());
  fill_rings(before.view(), made.view(), sky, 3);
  int changed = 0;
  for (int y = 75; y < 100; ++y) {
    for (int x = 0; x < 120; ++x) changed += made.view()(0, y, x) != after.view()(0, y, x);
  }
  EXPECT_EQ(changed, 0) << "far from stars nothing was recorded that could be missing";
}

TEST(PutBackHoles, WorksAtTheEdgeAndWithoutNoise) {
  Image before(1, {30, 30}, 0.1F), after(1, {30, 30}, 0.1F);
  synthetic::add_star(before.view(), psf, {0, 0, 20});
  after.view()(0, 0, 0) = -1;
  EXPECT_EQ(put_back_holes(before.view(), after.view(), {{0.1F, 0.0F}}, 3), 0) << "no scale";
  EXPECT_EQ(put_back_holes(before.view(), after.view(), {{0.1F, 0.001F}}, 3), 1);
  EXPECT_EQ(after.view()(0, 0, 0), before.view()(0, 0, 0));
}

}  // namespace
}  // namespace limpid
