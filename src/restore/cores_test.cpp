#include "restore/cores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "synthetic.h"

namespace limpid {
namespace {

constexpr float sigma = 0.001F, fwhm = 3;
constexpr Psf recorded_psf{fwhm, 3.0F, 0, 0, 0, 0}, sharp_psf{2, 3.0F, 0, 0, 0, 0};
constexpr Size size{160, 160};

/// A record and what a network made of it, with the star that is known of it in the middle.
struct Scene {
  Image before{1, size, 0.1F}, after{1, size, 0.1F};
  StarCatalogue catalogue{{}, {{0.1F, sigma}}, {}, size};

  Scene() {
    Star star;
    star.x = 80, star.y = 80, star.peak = 0.9F;
    catalogue.stars.push_back(star);
  }
  void fill(Rect part = {0, 0, size.width, size.height}) {
    fill_cores({before.view(), part, catalogue, fwhm, 2}, after.view());
  }
};

TEST(FillCores, DentsOfClippedOnesAreFilledAndNothingElse) {
  Scene scene;
  Image &before = scene.before, &after = scene.after;
  scene.catalogue.saturation = 1.0F;
  scene.catalogue.stars[0].saturated = true;
  for (int y = 70; y < 91; ++y) {
    for (int x = 70; x < 91; ++x) {
      const float away = std::hypot(static_cast<float>(x) - 80, static_cast<float>(y) - 80);
      before.view()(0, y, x) = away < 6 ? 1.0F : 0.3F;
      after.view()(0, y, x) = away < 2 ? 0.7F : away < 4.5F ? 1.0F : away < 6 ? 0.6F : 0.2F;
    }
  }
  after.view()(0, 120, 120) = 0.05F;
  const Image as_it_was = after.clone();
  scene.fill();
  EXPECT_EQ(after.view()(0, 80, 80), 1.0F);
  EXPECT_EQ(after.view()(0, 81, 79), 1.0F);
  EXPECT_EQ(after.view()(0, 80, 85), 0.6F) << "the edge of the core is no dent";
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      if (before.view()(0, y, x) < 1) {
        ASSERT_EQ(after.view()(0, y, x), as_it_was.view()(0, y, x)) << x << ' ' << y;
      }
    }
  }
}

/// A film's response: light is lost the more the brighter it is.
void flatten_top(Image& frame, float top) {
  for (float& value : frame.pixels()) value = 0.1F + top * std::tanh((value - 0.1F) / top);
}

TEST(FillCores, ASoftlyClippedStarHasNoDent) {
  Scene scene;
  synthetic::add_star(scene.before.view(), recorded_psf, {80, 80, 60}, 0);
  flatten_top(scene.before, 0.9F);
  synthetic::add_star(scene.after.view(), sharp_psf, {80, 80, 8}, 0);
  const float peak = scene.after.view()(0, 80, 80);
  ASSERT_LT(scene.before.view()(0, 80, 80), 1.0F);
  scene.after.view()(0, 80, 80) = 0.4F * peak;
  const Image as_it_was = scene.after.clone();
  scene.fill();
  EXPECT_NEAR(scene.after.view()(0, 80, 80), scene.after.view()(0, 80, 81), 0.2F * peak);
  EXPECT_GE(scene.after.view()(0, 80, 80), scene.after.view()(0, 81, 81));
  for (std::size_t i = 0; i < as_it_was.pixels().size(); ++i) {
    if (i != 80 * size.width + 80) {
      ASSERT_EQ(scene.after.pixels()[i], as_it_was.pixels()[i]) << i;
    }
  }
}

TEST(FillCores, TheDarkBetweenTwoStarsThatTheRecordShowsAsOneStays) {
  for (const auto& [dx, dy] : {std::pair{1.0F, 0.0F}, {0.8F, 0.8F}, {1.2F, 0.4F}}) {
    Scene scene;
    Psf narrow = sharp_psf;
    narrow.fwhm_px = 1.2F;
    for (const float side : {-1.0F, 1.0F}) {
      const synthetic::TrueStar star{80 + side * dx, 80 + side * dy, 10};
      synthetic::add_star(scene.before.view(), recorded_psf, star, 0);
      synthetic::add_star(scene.after.view(), narrow, star, 0);
    }
    const Image as_it_was = scene.after.clone();
    scene.fill();
    EXPECT_TRUE(std::ranges::equal(scene.after.pixels(), as_it_was.pixels())) << dx << ' ' << dy;
  }
}

TEST(FillCores, NothingIsRaisedWhereTheRecordHasADentOrIsFaint) {
  Scene ring, faint, nebula;
  synthetic::add_star(ring.before.view(), recorded_psf, {80, 80, 30}, 0);
  synthetic::add_star(ring.after.view(), sharp_psf, {80, 80, 30}, 0);
  ring.before.view()(0, 80, 80) = 0.5F * ring.before.view()(0, 80, 81);
  ring.after.view()(0, 80, 80) = 0.2F;
  synthetic::add_star(faint.before.view(), recorded_psf, {80, 80, 0.2F}, 0);
  synthetic::add_star(faint.after.view(), sharp_psf, {80, 80, 0.2F}, 0);
  faint.after.view()(0, 80, 80) = 0.1F;
  // a faint star on a bright nebula, whose own dents are nobody's business
  for (Image* frame : {&nebula.before, &nebula.after}) {
    for (float& value : frame->pixels()) value += 2;
    synthetic::add_star(frame->view(), recorded_psf, {80, 80, 0.2F}, 0);
  }
  nebula.after.view()(0, 80, 81) -= 0.05F;
  for (Scene* scene : {&ring, &faint, &nebula}) {
    const Image as_it_was = scene->after.clone();
    scene->fill();
    EXPECT_TRUE(std::ranges::equal(scene->after.pixels(), as_it_was.pixels()));
  }
}

TEST(FillCores, TheNoiseOfACoreThatStaysAsRecordedStays) {
  Scene scene;
  scene.catalogue.saturation = 0.9F;
  scene.catalogue.stars[0].saturated = true;
  for (int y = 60; y < 101; ++y) {
    for (int x = 60; x < 101; ++x) scene.before.view()(0, y, x) = 1;
  }
  synthetic::add_noise(scene.before.view(), 0.01F, 0, 0.1F, 3);
  scene.after = scene.before.clone();
  scene.fill();
  EXPECT_TRUE(std::ranges::equal(scene.after.pixels(), scene.before.pixels()));
}

TEST(FillCores, APartIsFilledAsTheWholeIs) {
  Scene whole;
  synthetic::add_star(whole.before.view(), recorded_psf, {80, 80, 60}, 0);
  flatten_top(whole.before, 0.9F);
  synthetic::add_star(whole.after.view(), sharp_psf, {80, 80, 8}, 0);
  whole.after.view()(0, 80, 80) = 0.3F;
  Scene part;
  part.before = whole.before.clone();
  const Rect rect{40, 60, 70, 50};
  part.after = copy(whole.after.view().crop(rect));
  part.fill(rect);
  whole.fill();
  EXPECT_GT(whole.after.view()(0, 80, 80), 0.3F);
  EXPECT_TRUE(
      std::ranges::equal(copy(whole.after.view().crop(rect)).pixels(), part.after.pixels()));
}

}  // namespace
}  // namespace limpid
