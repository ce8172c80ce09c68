#include "background/downscale.h"

#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "core/statistics.h"

namespace limpid::background {
namespace {

TEST(Downscale, GivesTheMediansOfTheBlocks) {
  // a width that no vector divides, with holes up to whole blocks
  Image frame(2, {83, 40});
  std::mt19937 random(5);
  std::normal_distribution<float> normal(100, 3);
  for (float& pixel : frame.pixels()) pixel = normal(random);
  constexpr float nothing = std::numeric_limits<float>::quiet_NaN();
  for (int y = 10; y < 30; ++y) {
    for (int x = 20; x < 41; ++x) frame.view()(1, y, x) = (x + y) % 3 == 0 ? 0 : nothing;
    frame.view()(0, y, 50 + y % 7) = nothing;
  }
  for (const int factor : {1, 3, 8, 10}) {
    const Image small = downscale(frame.view(), factor, Downscaling::median, {}, 2);
    for (int c = 0; c < 2; ++c) {
      for (int v = 0; v < small.height(); ++v) {
        for (int u = 0; u < small.width(); ++u) {
          std::vector<float> known;
          for (int i = 0; i < factor * factor; ++i) {
            const float pixel = frame.view()(c, v * factor + i / factor, u * factor + i % factor);
            if (std::isfinite(pixel) && pixel != 0) known.push_back(pixel);
          }
          const float found = small.view()(c, v, u);
          if (2 * known.size() < static_cast<std::size_t>(factor * factor)) {
            EXPECT_TRUE(std::isnan(found));
          } else {
            EXPECT_EQ(found, median(known)) << factor << ' ' << u << ' ' << v;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace limpid::background
