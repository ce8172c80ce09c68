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

TEST(NoiseModel, PhotonsAreToldByBrightAndFaintBlocks) {
  const Image frame = noisy(-100, 100, 1, 0.2F), discs(1, frame.size());
  EXPECT_NEAR(photon_share(frame.view(), discs.view(), {0, 1}), 0.2F, 0.02F);
}

TEST(NoiseModel, PhotonsAreToldWhereThereIsNoSky) {
  const Image frame = noisy(30, 100, 1, 0.2F), discs(1, frame.size());
  EXPECT_NEAR(photon_share(frame.view(), discs.view(), {0, 1}), 0.2F, 0.02F);
}

TEST(NoiseModel, BlocksWithStarsAndEmptySkiesTellNothing) {
  const Image frame = noisy(0, 100, 1, 0.2F), dark = noisy(0, 1, 1, 0.2F);
  const Image all(1, frame.size(), 1), none(1, frame.size());
  EXPECT_EQ(photon_share(frame.view(), all.view(), {0, 1}), 0);
  EXPECT_EQ(photon_share(dark.view(), none.view(), {0, 1}), 0);
}

}  // namespace
}  // namespace limpid
