#include "multiframe/super_resolution.h"

#include <cmath>

#include <gtest/gtest.h>
#include <limpid/stars.h>

namespace limpid::multiframe {
namespace {

TEST(SuperResolution, LiftedKernelAndStarOfTheResultGiveWhatTheFrameRecords) {
  constexpr int factor = 2, side = 31;
  constexpr float sigma = 1.1F;
  const auto native = [](float u, float v) { return Psf{3, 3, 0.1F, 0, u, v}.kernel(side); };
  const Image kernel = lift_kernel(native, {factor, sigma, 250});
  ASSERT_EQ(kernel.width(), factor * (side - 1) + 1);
  double sum = 0;
  for (const float value : kernel.pixels()) {
    EXPECT_GE(value, 0);
    sum += value;
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  // the slow, obvious way: a Gaussian star on a fine pixel, blurred, summed over a block
  const int centre = kernel.width() / 2;
  const auto recorded = [&](int pixel_x, int pixel_y, int star_x, int star_y) {
    double light = 0, norm = 0;
    for (int gy = -5; gy <= 5; ++gy) {
      for (int gx = -5; gx <= 5; ++gx) {
        const double weight = std::exp(-0.5 * (gx * gx + gy * gy) / (sigma * sigma));
        norm += weight;
        for (int j = 0; j < factor; ++j) {
          for (int i = 0; i < factor; ++i) {
            const int u = factor * pixel_x + i - star_x - gx + centre;
            const int v = factor * pixel_y + j - star_y - gy + centre;
            if (u >= 0 && v >= 0 && u < kernel.width() && v < kernel.height())
              light += weight * kernel.view()(0, v, u);
          }
        }
      }
    }
    return light / norm;
  };
  for (const auto& [star_x, star_y] : {std::pair{0, 0}, {1, 0}, {1, 1}}) {
    const auto place = [](int fine) { return (static_cast<float>(fine) + 0.5F) / factor - 0.5F; };
    const Image truth = native(place(star_x), place(star_y));
    for (int y = -3; y <= 3; ++y) {
      for (int x = -3; x <= 3; ++x) {
        // a hundredth of the peak, 0.08
        EXPECT_NEAR(recorded(x, y, star_x, star_y), truth.view()(0, y + side / 2, x + side / 2),
                    8e-4)
            << x << ' ' << y << " star " << star_x << ' ' << star_y;
      }
    }
  }
}

TEST(SuperResolution, RefiningKeepsTheLight) {
  Image frame(2, {20, 16});
  for (std::size_t i = 0; i < frame.pixels().size(); ++i)
    frame.pixels()[i] = 5 + std::sin(0.4F * static_cast<float>(i % 20));
  for (const int factor : {1, 2, 4}) {
    const Image fine = refine(frame.view(), factor);
    double before = 0, after = 0;
    for (const float value : frame.pixels()) before += value;
    for (const float value : fine.pixels()) after += value;
    EXPECT_NEAR(after / before, 1, 2e-3) << factor;
  }
}

TEST(SuperResolution, MovingByWholePixelsIsExact) {
  const Image kernel = Psf{3, 3, 0, 0, 0, 0}.kernel(15);
  const Image right = moved(kernel.view(), 2, -1);
  for (int y = 3; y < 12; ++y) {
    for (int x = 3; x < 12; ++x)
      EXPECT_FLOAT_EQ(right.view()(0, y - 1, x + 2), kernel.view()(0, y, x));
  }
}

}  // namespace
}  // namespace limpid::multiframe
