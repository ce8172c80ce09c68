#include "restore/noise_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace limpid {
namespace {

/// Noise of this share over a slope from `least` to `most`, darkness being empty sky.
Image noisy(float least, float most, float sigma, float share) {
  constexpr Size size{512, 512};
  Image frame(1, size);
  Random random(7, 0);
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      const float light = std::max(0.0F, least + (most - least) * static_cast<float>(x) / 511);
      frame.view()(0, y, x) =
          light + std::sqrt(sigma * sigma + share * light) * static_cast<float>(random.normal());
    }
  }
  return frame;
}

StarCatalogue empty_sky(Size frame) {
  StarCatalogue catalogue;
  catalogue.sky = {{0, 1}};
  catalogue.frame = frame;
  return catalogue;
}

float photon_share(const Image& frame, const StarCatalogue& catalogue) {
  return measure_noise(frame.view(), catalogue, 3, 2).photon_shares.at(0);
}

TEST(NoiseModel, PhotonsAreToldByBrightAndFaintBlocks) {
  const Image frame = noisy(-100, 100, 1, 0.2F);
  EXPECT_NEAR(photon_share(frame, empty_sky(frame.view().size())), 0.2F, 0.02F);
}

TEST(NoiseModel, PhotonsAreToldWhereThereIsNoSky) {
  const Image frame = noisy(30, 100, 1, 0.2F);
  EXPECT_NEAR(photon_share(frame, empty_sky(frame.view().size())), 0.2F, 0.02F);
}

TEST(NoiseModel, BlocksWithStarsAndEmptySkiesTellNothing) {
  const Image frame = noisy(0, 100, 1, 0.2F), dark = noisy(0, 1, 1, 0.2F);
  StarCatalogue full = empty_sky(frame.view().size());
  for (int y = 0; y < frame.height(); y += 32) {  // whose discs of 48 px leave no gaps
    for (int x = 0; x < frame.width(); x += 32) {
      Star star;
      star.x = static_cast<float>(x);
      star.y = static_cast<float>(y);
      star.peak = 1e9F;
      full.stars.push_back(star);
    }
  }
  EXPECT_EQ(photon_share(frame, full), 0);
  EXPECT_EQ(photon_share(dark, empty_sky(dark.view().size())), 0);
}

}  // namespace
}  // namespace limpid
