// Stars where there is more than sky around them.
#include <algorithm>
#include <cmath>
#include <ctime>
#include <random>
#include <span>

#include <gtest/gtest.h>
#include <limpid/stars.h>

#include "core/statistics.h"
#include "measure/matched_filter.h"
#include "synthetic.h"

namespace limpid {
namespace {

using synthetic::find_star;

constexpr float sigma = 0.001F;
const Psf psf{3, 3.5F, 0, 0, 0, 0};

/// Knots in three quarters of the frame, of three times the width of a star and 5 to 30 times the
/// noise.
void add_structure(Image& frame, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> x(100, 400), y(0, 400), height(5, 30);
  const Psf knot{9, 4, 0, 0, 0, 0};
  for (int i = 0; i < 1100; ++i) {
    synthetic::add_star(
        frame.view(), knot,
        {x(random), y(random), synthetic::flux_for_snr(knot, height(random), sigma)});
  }
}

constexpr int star_count = 36;
struct Place {
  float x, y;
};
Place place_of(int star) {
  return {40.2F + 60 * static_cast<float>(star % 6), 40.7F + 60 * static_cast<float>(star / 6)};
}
/// A sky with stars far apart.
Image starry(float snr) {
  Image frame(1, {400, 400}, 0.1F);
  for (int i = 0; i < star_count; ++i) {
    const auto [x, y] = place_of(i);
    synthetic::add_star(frame.view(), psf, {x, y, synthetic::flux_for_snr(psf, snr, sigma)});
  }
  return frame;
}

TEST(DetectStarsOnNebulae, WideLightAloneIsSeenQuickly) {
  // a planet: its noise has peaks everywhere, each as wide as all of it
  Image wide(1, {150, 130}, 100);
  for (int y = 0; y < 130; ++y) {
    for (int x = 0; x < 150; ++x) {
      const float away = std::hypot(static_cast<float>(x) - 60, static_cast<float>(y) - 75);
      wide.view()(0, y, x) += 200 * std::clamp(32 - away, 0.0F, 4.0F);
    }
  }
  synthetic::add_noise(wide.view(), 1, 0, 0, 20);
  Image stars = starry(200);
  synthetic::add_noise(stars.view(), sigma, 0, 0, 21);
  const auto seconds_for = [](const Image& frame) {
    const std::clock_t begin = std::clock();
    static_cast<void>(detect_stars(frame.view(), {.threads = 1}));
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  };
  // of the processor, in units of what a field of 36 stars takes: 13; 71 when windows of 121 pixels
  // are fitted
  EXPECT_LT(seconds_for(wide), 30 * std::max(seconds_for(stars), seconds_for(stars)));
}

TEST(DetectStarsOnNebulae, StarsOfAnyWidthKeepIt) {
  for (const float width : {6.0F, 12.0F, 24.0F}) {
    const Psf wide{width, 3, 0, 0, 0, 0};
    Image frame(1, {900, 900});
    for (int y = 0; y < 7; ++y) {
      for (int x = 0; x < 7; ++x) {
        synthetic::add_star(
            frame.view(), wide,
            {70.3F + 125 * static_cast<float>(x), 70.6F + 125 * static_cast<float>(y),
             synthetic::flux_for_snr(wide, 300, 1)});
      }
    }
    synthetic::add_noise(frame.view(), 1, 0, 100, 5);
    std::vector<float> widths;
    for (const Star& star : detect_stars(frame.view()).stars)
      if (!star.fits.empty()) widths.push_back(star.fwhm_px);
    ASSERT_EQ(widths.size(), 49U) << width;
    EXPECT_NEAR(median(widths), width, 0.01F * width);
  }
}

TEST(DetectStarsOnNebulae, FindsPointsAmongStructureThatOutshinesThem) {
  Image frame(1, {400, 400}, 0.1F);
  add_structure(frame, 8);
  std::vector<synthetic::TrueStar> stars;
  for (int y = 30; y < 380; y += 34) {
    for (int x = 30; x < 380; x += 34) {
      stars.push_back({static_cast<float>(x) + 0.3F, static_cast<float>(y) + 0.1F,
                       synthetic::flux_for_snr(psf, 25, sigma)});
      synthetic::add_star(frame.view(), psf, stars.back());
    }
  }
  // and some bright ones, which tell how wide a star is
  for (int i = 0; i < 8; ++i) {
    synthetic::add_star(frame.view(), psf,
                        {47.2F + 34 * static_cast<float>(i), 47.6F + 34 * static_cast<float>(i),
                         synthetic::flux_for_snr(psf, 600, sigma)});
  }
  synthetic::add_noise(frame.view(), sigma, 0, 0, 1);
  const auto catalogue = detect_stars(frame.view());
  const auto found = std::ranges::count_if(stars, [&](const synthetic::TrueStar& star) {
    return find_star(catalogue, star.x, star.y, 1.2F) != nullptr;
  });
  EXPECT_GE(found, 95 * std::ssize(stars) / 100) << "of " << stars.size();
  EXPECT_LE(std::ssize(catalogue.stars), found + 8 + 30) << "knots are no stars";
}

/// The fits of such stars come out too wide.
TEST(DetectStarsOnNebulae, AStarBesideABrightKnotIsNoGalaxy) {
  Image frame = starry(120);
  const Psf knot{10, 4, 0, 0, 0, 0};
  for (int i = 1; i < star_count; i += 2) {
    const auto [x, y] = place_of(i);
    synthetic::add_star(frame.view(), knot,
                        {x + 5, y + 3, synthetic::flux_for_snr(knot, 150, sigma)});
  }
  synthetic::add_noise(frame.view(), sigma, 0, 0, 2);
  const auto catalogue = detect_stars(frame.view());
  for (int i = 0; i < star_count; ++i) {
    const auto [x, y] = place_of(i);
    EXPECT_NE(find_star(catalogue, x, y, 0.9F), nullptr) << i;
  }
}

TEST(DetectStarsOnNebulae, FindsStarsThatTheFramesEdgeCuts) {
  Image frame = starry(60);
  for (int i = 0; i < 6; ++i)  // half a FWHM from it
    synthetic::add_star(frame.view(), psf,
                        {1.6F + 0.05F * static_cast<float>(i), 70.5F + 60 * static_cast<float>(i),
                         synthetic::flux_for_snr(psf, 1000, sigma)});
  synthetic::add_noise(frame.view(), sigma, 0, 0, 3);
  const auto catalogue = detect_stars(frame.view());
  for (int i = 0; i < 6; ++i) {
    const Star* star = find_star(catalogue, 1.6F + 0.05F * static_cast<float>(i),
                                 70.5F + 60 * static_cast<float>(i), 2);
    ASSERT_NE(star, nullptr) << i;
  }
}

TEST(DetectStarsOnNebulae, RimsOfDeadRowsAreNoStars) {
  Image frame = starry(60);
  synthetic::add_noise(frame.view(), sigma, 0, 0, 5);
  for (int y = 190; y < 196; ++y) {
    for (float& pixel : frame.view().row(0, y)) pixel = 0.1F + 0.012F;
  }
  EXPECT_LE(detect_stars(frame.view()).stars.size(), star_count + 2U);
}

/// The noise of pixels is known at half the scale: at the right edge, too, where the width is even.
TEST(DetectStarsOnNebulae, ThePixelsNoiseIsKnownUpToTheEdge) {
  Image filtered(1, {64, 64}, 0.5F);
  for (const int x : {20, 62}) filtered.view()(0, 30, x) = 4;
  const Image rough = roughness(filtered.view(), 1);
  const auto mesh = [](const Image& of, CellStatistic statistic) {
    const Image covered(1, of.size(), 0.5F);
    return Mesh(covered.view(), Coverage(covered.view()), 32, statistic, 1);
  };
  const Mesh scatter = mesh(filtered, [](std::span<float>) { return 100.0F; }),
             noise = mesh(rough, [](std::span<float>) { return 1.0F; });
  const auto found = [&](float point_threshold) {
    return find_peaks(
               filtered.view(),
               {.scatter = scatter, .least = 0.1F, .roughness = &noise, .noise_to_roughness = 1}, 5,
               point_threshold, 1)
        .size();
  };
  EXPECT_EQ(found(3), 2U);
  EXPECT_EQ(found(5), 0U);
}

}  // namespace
}  // namespace limpid
