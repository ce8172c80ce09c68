#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include <gtest/gtest.h>
#include <limpid/stars.h>

#include "synthetic.h"

namespace limpid {
namespace {

using synthetic::Field;
using synthetic::FieldSettings;
using synthetic::find_star;
using synthetic::make_field;

int count_matched(const StarCatalogue& catalogue, const Field& field, float radius_px) {
  return static_cast<int>(std::ranges::count_if(field.stars, [&](const synthetic::TrueStar& star) {
    return find_star(catalogue, star.x, star.y, radius_px) != nullptr;
  }));
}

TEST(DetectStars, FindsIsolatedStarsAndNothingElse) {
  for (const float fwhm : {1.5F, 3.0F, 8.0F}) {
    FieldSettings settings;
    settings.size = {800, 800};
    settings.stars = 100;
    settings.snr_min = 10;
    settings.snr_max = 200;
    settings.separation_px = 8 * fwhm;
    settings.margin_px = 4 * fwhm;
    settings.psf = [fwhm](float, float, int) { return Psf{fwhm, 3, 0.1F, -0.05F, 0, 0}; };
    const Field field = make_field(settings);
    const auto catalogue = detect_stars(field.frame.view());
    const auto truth = static_cast<int>(field.stars.size());
    EXPECT_GE(count_matched(catalogue, field, std::max(1.5F, 0.5F * fwhm)), 98 * truth / 100)
        << fwhm;
    EXPECT_LE(static_cast<int>(catalogue.stars.size()), truth + 1) << fwhm;
    EXPECT_FALSE(catalogue.saturation);
    for (const Star& star : catalogue.stars) {
      EXPECT_FALSE(star.artefact || star.saturated) << star.x << ' ' << star.y;
    }
  }
}

TEST(DetectStars, FitsEachChannelWithHonestErrors) {
  FieldSettings settings;
  settings.size = {800, 600};
  settings.channels = 3;
  settings.stars = 120;
  settings.snr_min = 20;
  settings.snr_max = 500;
  settings.separation_px = 28;
  settings.gain = 2e4F;
  settings.psf = [](float, float, int channel) {
    return Psf{2.5F + 0.4F * static_cast<float>(channel), 3, 0, 0.08F,
               0.2F * static_cast<float>(channel - 1),    0};
  };
  const Field field = make_field(settings);
  const auto catalogue = detect_stars(field.frame.view());
  double squares = 0, flux_squares = 0, count = 0;
  for (const auto& truth : field.stars) {
    const Star* star = find_star(catalogue, truth.x, truth.y, 1.5F);
    if (star == nullptr || star->fits.empty()) continue;
    for (std::size_t c = 0; c < 3; ++c) {
      const StarFit& fit = star->fits[c];
      if (fit.psf.fwhm_px == 0) continue;
      squares +=
          std::pow((fit.psf.fwhm_px - 2.5 - 0.4 * static_cast<double>(c)) / fit.fwhm_error, 2);
      flux_squares += std::pow((fit.flux - truth.flux) / fit.flux_error, 2);
      count += 1;
    }
  }
  ASSERT_GT(count, 250);
  EXPECT_NEAR(std::sqrt(squares / count), 1.0, 0.25);
  EXPECT_NEAR(std::sqrt(flux_squares / count), 1.0, 0.25);

  const auto psf_field = fit_psf_field(catalogue);
  ASSERT_TRUE(psf_field);
  for (int c = 0; c < 3; ++c) {
    const Psf psf = psf_field->at(400, 300, c);
    EXPECT_NEAR(psf.fwhm_px, 2.5 + 0.4 * c, 0.01 * psf.fwhm_px);
    EXPECT_NEAR(psf.e1, 0, 0.01);
    EXPECT_NEAR(psf.e2, 0.08, 0.01);
    EXPECT_NEAR(psf.dx, 0.2 * (c - 1), 0.02);
    EXPECT_NEAR(psf.dy, 0, 0.02);
  }
}

TEST(DetectStars, FlagsCosmicRaysAndHotPixels) {
  FieldSettings settings;
  settings.size = {600, 600};
  settings.stars = 60;
  settings.snr_min = 30;
  settings.separation_px = 30;
  Field field = make_field(settings);
  std::mt19937 random(11);
  int added = 0;
  for (int i = 0; i < 40; ++i) {
    const int x = 20 + static_cast<int>(random() % 560), y = 20 + static_cast<int>(random() % 560);
    const bool near = std::ranges::any_of(field.stars, [=](const synthetic::TrueStar& star) {
      return std::hypot(star.x - static_cast<float>(x), star.y - static_cast<float>(y)) < 15;
    });
    if (near) continue;
    // every second one is the slanted track of a particle
    for (int step = 0; step <= (i % 2) * 5; ++step)
      field.frame.view()(0, y + step / 2, x + step) += 0.05F;
    ++added;
  }
  const auto catalogue = detect_stars(field.frame.view());
  const auto stars = std::ranges::count(catalogue.stars, false, &Star::artefact);
  EXPECT_GE(std::ranges::count(catalogue.stars, true, &Star::artefact), added * 9 / 10);
  EXPECT_LE(stars, 60 + 1);
  EXPECT_GE(stars, 59);
  const auto psf_field = fit_psf_field(catalogue);
  ASSERT_TRUE(psf_field);
  EXPECT_NEAR(psf_field->at(300, 300, 0).fwhm_px, 3, 0.03);
}

TEST(DetectStars, GalaxiesAndNebulaeAreNoStars) {
  FieldSettings settings;
  settings.size = {700, 700};
  settings.stars = 80;
  settings.snr_min = 30;
  settings.separation_px = 40;
  Field field = make_field(settings);
  std::mt19937 random(5);
  std::vector<synthetic::TrueStar> galaxies;
  for (int i = 0; i < 25; ++i) {
    const synthetic::TrueStar galaxy{30 + static_cast<float>(random() % 640),
                                     30 + static_cast<float>(random() % 640), 0};
    const bool near = std::ranges::any_of(field.stars, [&](const synthetic::TrueStar& star) {
      return std::hypot(star.x - galaxy.x, star.y - galaxy.y) < 25;
    });
    if (near) continue;
    galaxies.push_back(galaxy);
    const Psf profile{7, 2, 0.3F, 0, 0, 0};
    synthetic::add_star(field.frame.view(), profile,
                        {galaxy.x, galaxy.y, synthetic::flux_for_snr(profile, 100, 0.001F)}, 0, 4);
  }
  for (int y = 0; y < 700; ++y) {
    for (int x = 0; x < 700; ++x) {
      const auto u = static_cast<float>(x), v = static_cast<float>(y);
      field.frame.view()(0, y, x) += 0.02F * (1 + std::sin(u / 23) * std::cos(v / 31 + u / 60));
    }
  }
  const auto catalogue = detect_stars(field.frame.view());
  int taken = 0;
  for (const auto& galaxy : galaxies) {
    const Star* star = find_star(catalogue, galaxy.x, galaxy.y, 3);
    taken += star != nullptr && !star->artefact ? 1 : 0;
  }
  EXPECT_LE(taken, 1) << "of " << galaxies.size();
  EXPECT_GE(count_matched(catalogue, field, 1.5F), 78);
  // a sharp crest of the waves may pass for a faint star
  EXPECT_LE(static_cast<int>(catalogue.stars.size()), 84 + taken);
}

TEST(DetectStars, FindsTheLevelAtWhichCoresAreClipped) {
  FieldSettings settings;
  settings.size = {700, 700};
  settings.stars = 120;
  settings.snr_min = 20;
  settings.snr_max = 20000;
  settings.separation_px = 40;
  settings.gain = 1e5F;
  Field field = make_field(settings);
  // as after stacking: each star was clipped at a slightly different level
  std::mt19937 random(3);
  int clipped = 0;
  for (const auto& star : field.stars) {
    const float level = 0.8F + 0.002F * static_cast<float>(random() % 10);
    bool touched = false;
    for (int y = -12; y <= 12; ++y) {
      for (int x = -12; x <= 12; ++x) {
        float& pixel =
            field.frame.view()(0, static_cast<int>(star.y) + y, static_cast<int>(star.x) + x);
        touched = touched || pixel > level + 0.1F;
        pixel = std::min(pixel, level);
      }
    }
    clipped += touched ? 1 : 0;
  }
  const auto catalogue = detect_stars(field.frame.view());
  ASSERT_TRUE(catalogue.saturation);
  EXPECT_GT(*catalogue.saturation, 0.75F);
  EXPECT_LT(*catalogue.saturation, 0.80F);
  const auto found = std::ranges::count(catalogue.stars, true, &Star::saturated);
  EXPECT_GE(found, clipped);
  EXPECT_LE(found, clipped + 12);  // those that the clip only brushed
  EXPECT_LE(static_cast<int>(catalogue.stars.size()), 125);
  const auto psf_field = fit_psf_field(catalogue);
  ASSERT_TRUE(psf_field);
  EXPECT_NEAR(psf_field->at(350, 350, 0).fwhm_px, 3, 0.03);
}

/// Forty stars, and whatever else `add` puts in the middle.
Image frame_with(const std::function<float(float x, float y)>& add) {
  Image frame(1, {300, 300}, 0.1F);
  const Psf psf{3, 3, 0, 0, 0, 0};
  for (int i = 0; i < 40; ++i) {
    synthetic::add_star(
        frame.view(), psf,
        {20.2F + 37 * static_cast<float>(i % 8), 20.7F + 62 * static_cast<float>(i / 8),
         synthetic::flux_for_snr(psf, 60 + 5 * static_cast<float>(i), 0.001F)});
  }
  for (int y = 0; y < 300; ++y) {
    for (int x = 0; x < 300; ++x) {
      float& pixel = frame.view()(0, y, x);
      pixel = std::min(1.0F, pixel + add(static_cast<float>(x) - 150, static_cast<float>(y) - 115));
    }
  }
  synthetic::add_noise(frame.view(), 0.001F, 0, 0, 4);
  return frame;
}

TEST(DetectStars, OneStarClippedOverManyFwhmTellsTheSaturation) {
  const Image frame = frame_with(
      [](float x, float y) { return 4000 * std::pow(1 + (x * x + y * y) * 4 * 0.26F / 9, -3.0F); });
  const auto catalogue = detect_stars(frame.view());
  ASSERT_TRUE(catalogue.saturation) << "its core is 17 px across in stars of 3 px";
  EXPECT_NEAR(*catalogue.saturation, 0.97F, 0.02F);
  EXPECT_TRUE(std::ranges::any_of(catalogue.stars, &Star::saturated));
}

TEST(DetectStars, TheWideCoreOfAGalaxyIsNotClipped) {
  const Image frame = frame_with(
      [](float x, float y) { return 0.8F * std::exp(-(x * x + y * y) / (2 * 25 * 25)); });
  EXPECT_FALSE(detect_stars(frame.view()).saturation);
}

TEST(DetectStars, FlagsBlendedStars) {
  Image frame(1, {300, 300}, 0.1F);
  const Psf psf{3, 3, 0, 0, 0, 0};
  const float flux = synthetic::flux_for_snr(psf, 200, 0.001F);
  // pairs 4.5 px apart, which the filter does not separate, among single stars
  const auto place = [](int i) {
    return std::pair{40.0F + 50 * static_cast<float>(i % 5),
                     30.3F + 40 * static_cast<float>(i / 5)};
  };
  const auto is_pair = [](int i) { return i % 7 == 3; };
  for (int i = 0; i < 30; ++i) {
    const auto [x, y] = place(i);
    synthetic::add_star(frame.view(), psf, {x, y, flux});
    if (is_pair(i)) synthetic::add_star(frame.view(), psf, {x + 4.5F, y, 0.5F * flux});
  }
  synthetic::add_noise(frame.view(), 0.001F, 0, 0, 2);
  const auto catalogue = detect_stars(frame.view());
  for (int i = 0; i < 30; ++i) {
    const auto [x, y] = place(i);
    const Star* star = find_star(catalogue, x, y, 2.5F);
    // a pair as wide as a galaxy may be taken for one and left out
    if (is_pair(i)) {
      EXPECT_TRUE(star == nullptr || star->blended) << x << ' ' << y;
    } else {
      ASSERT_TRUE(star) << x << ' ' << y;
      EXPECT_FALSE(star->blended || star->fits.empty()) << x << ' ' << y;
    }
  }
}

TEST(DetectStars, CopesWithFramesThatHoldLittle) {
  constexpr float no_data = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(detect_stars(ConstView{}).stars.empty());
  EXPECT_TRUE(detect_stars(Image(3, {200, 100}, 0.3F).view()).stars.empty());
  EXPECT_TRUE(detect_stars(Image(1, {200, 100}, no_data).view()).stars.empty());
  EXPECT_TRUE(detect_stars(Image(1, {1, 1}, 0.3F).view()).stars.empty());
  EXPECT_TRUE(detect_stars(Image(1, {1, 300}, 0.3F).view()).stars.empty());
  Image noise(1, {600, 600}, 0.1F);
  synthetic::add_noise(noise.view(), 0.01F, 0, 0, 1);
  // 40,000 independent places at 5 sigma: one in forty such frames has a false star
  EXPECT_LE(detect_stars(noise.view()).stars.size(), 1U);

  for (const int side : {15, 30}) {
    Image tiny(1, {side, side}, 0.1F);
    synthetic::add_star(tiny.view(), Psf{3, 3, 0, 0, 0, 0},
                        {static_cast<float>(side) / 2, 7.2F, 0.5F});
    synthetic::add_noise(tiny.view(), 0.001F, 0, 0, 1);
    const auto catalogue = detect_stars(tiny.view());
    ASSERT_EQ(catalogue.stars.size(), 1U) << side;
    EXPECT_NEAR(catalogue.stars[0].x, static_cast<float>(side) / 2, 0.1F);
    EXPECT_FALSE(fit_psf_field(catalogue));
  }
}

TEST(DetectStars, MissingPixelsAndBordersDoNoHarm) {
  FieldSettings settings;
  settings.size = {400, 400};
  settings.stars = 40;
  settings.separation_px = 30;
  settings.margin_px = 40;
  Field field = make_field(settings);
  for (int y = 0; y < 400; ++y) {
    for (int x = 0; x < 20; ++x) field.frame.view()(0, y, x) = 0;
  }
  const auto& star = field.stars[0];
  const int x0 = static_cast<int>(std::lround(star.x)), y0 = static_cast<int>(std::lround(star.y));
  field.frame.view()(0, y0, x0) = std::numeric_limits<float>::quiet_NaN();
  const auto catalogue = detect_stars(field.frame.view());
  EXPECT_GE(count_matched(catalogue, field, 1.5F), 39);
  EXPECT_LE(catalogue.stars.size(), 44U);
  for (const Star& found : catalogue.stars) EXPECT_TRUE(std::isfinite(found.flux)) << found.x;
}

TEST(DetectStars, GivesTheSameWithAnyNumberOfThreads) {
  FieldSettings settings;
  settings.size = {500, 400};
  settings.stars = 80;
  settings.snr_min = 10;
  settings.snr_max = 300;
  const Field field = make_field(settings);
  const auto one = detect_stars(field.frame.view(), {.threads = 1});
  const auto many = detect_stars(field.frame.view(), {.threads = 5});
  ASSERT_EQ(one.stars.size(), many.stars.size());
  for (std::size_t i = 0; i < one.stars.size(); ++i) {
    EXPECT_EQ(one.stars[i].x, many.stars[i].x);
    EXPECT_EQ(one.stars[i].fwhm_px, many.stars[i].fwhm_px);
  }
}

TEST(DetectStars, StopsWhenAsked) {
  std::stop_source source;
  source.request_stop();
  Progress progress;
  progress.stop = source.get_token();
  Image frame(1, {64, 64}, 0.1F);
  synthetic::add_noise(frame.view(), 0.01F, 0, 0, 1);
  EXPECT_THROW(detect_stars(frame.view(), {}, progress), Error);
}

}  // namespace
}  // namespace limpid
