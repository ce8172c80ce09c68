#include "multiframe/stack_sky.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include <limpid/stars.h>

namespace limpid::multiframe {
namespace {

constexpr int reach = 20, usual_side = 96;
constexpr float level = 10, sigma = 0.5F, flux = 5000, star_x = 45, star_y = 52;
constexpr float disc_px = 7;  ///< as far as the star outshines the noise of the stack

/// Adds a star of that width, as a round Gaussian.
void add_star(MutableView image, float fwhm_px, float x, float y) {
  const float s = fwhm_px / 2.3548F, peak = flux / (6.2832F * s * s);
  for (int v = 0; v < image.height(); ++v) {
    for (int u = 0; u < image.width(); ++u) {
      const float away = std::hypot(static_cast<float>(u) - x, static_cast<float>(v) - y);
      image(0, v, u) += peak * std::exp(-0.5F * away * away / (s * s));
    }
  }
}

/// A star that has become narrower in the estimate, in a disc half a sigma under the sky.
struct Scene {
  int side;
  Image estimate{1, {side + 2 * reach, side + 2 * reach}, level};
  Image stack{1, {side, side}, level};
  std::vector<Image> kernels;

  explicit Scene(bool star, int side_px = usual_side) : side(side_px) {
    std::mt19937 random(5);
    std::normal_distribution<float> noise(0, sigma);
    // 4 px wide in the stack: of 3.5 px in quadrature with the 1.94 px of the estimate
    kernels.push_back(Image(1, {2 * reach + 1, 2 * reach + 1}));
    add_star(kernels[0].view(), 3.5F, reach, reach);
    for (float& value : kernels[0].pixels()) value /= flux;
    if (star) {
      add_star(estimate.view(), 1.94F, star_x + reach, star_y + reach);
      add_star(stack.view(), 4, star_x, star_y);
    }
    for (float& value : stack.pixels()) value += noise(random);
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) {
        float& value = estimate.view()(0, y + reach, x + reach);
        if (star && away(y, x) < disc_px) {
          value = std::max(value - 0.5F * sigma, level - 0.5F * sigma);
        } else {
          value += stack.view()(0, y, x) - level;
        }
      }
    }
  }
  static float away(int y, int x) {
    return std::hypot(static_cast<float>(x) - star_x, static_cast<float>(y) - star_y);
  }
  [[nodiscard]] Image result(bool pays = true, const Hosts& hosts = {}) const {
    return with_sky_of_stack({.estimate = estimate.view(),
                              .stack = stack.view(),
                              .reach = reach,
                              .level = level,
                              .sigma = sigma,
                              .relax = 0.7F,
                              .iterations = 20,
                              .kernels = &kernels},
                             pays, 1, 0, hosts);
  }
  [[nodiscard]] ConstView before() const {
    return estimate.view().crop({reach, reach, side, side});
  }
};

double sum(ConstView image) {
  double total = 0;
  for (int y = 0; y < image.height(); ++y) {
    for (const float value : image.row(0, y)) total += value;
  }
  return total;
}

TEST(StackSky, ADugDiscGetsTheNoiseOfTheSkyAtItsLevel) {
  const Scene scene(true), empty(false);  // of the same noise
  const Image result = scene.result();
  double total = 0, squares = 0, stack = 0;
  int count = 0;
  for (int y = 0; y < scene.side; ++y) {
    for (int x = 0; x < scene.side; ++x) {
      const float away = Scene::away(y, x);
      if (away < 3.5F || away >= disc_px - 1) continue;
      const double value = (result.view()(0, y, x) - level) / sigma;
      total += value;
      squares += value * value;
      stack += (empty.stack.view()(0, y, x) - level) / sigma;
      ++count;
    }
  }
  const double mean = total / count;
  // of some 15 spots of the noise that iterations make
  EXPECT_NEAR(mean, stack / count, 0.25);
  const double rms = std::sqrt(squares / count - mean * mean);
  // iterations raise white noise 1.5 times here; before, it was none
  EXPECT_GT(rms, 0.7);
  EXPECT_LT(rms, 1.6);
}

TEST(StackSky, StarsPayForWhatIsBrought) {
  const Scene scene(true);
  const double before = sum(scene.before());
  EXPECT_NEAR(sum(scene.result().view()), before, 1e-4 * flux);
  EXPECT_GT(sum(scene.result(false).view()), before + 1e-3 * flux);
}

TEST(StackSky, ASkyWithoutStarsStays) {
  const Scene scene(false);
  const Image result = scene.result();
  for (int y = 0; y < scene.side; ++y)
    EXPECT_TRUE(std::ranges::equal(result.view().row(0, y), scene.before().row(0, y)));
}

// More than one square, of which the first has the star.
TEST(StackSky, HostsShareTheWork) {
  const Scene scene(true, 450);
  const Image alone = scene.result();
  std::vector<float> total(alone.pixels().size());
  for (int rank = 0; rank < 2; ++rank) {
    std::size_t worked_on = 0;
    const auto add = [&](std::span<float> part) {
      for (std::size_t i = 0; i < part.size(); ++i) total[i] += part[i];
      worked_on += part.size() - static_cast<std::size_t>(std::ranges::count(part, 0.0F));
    };
    static_cast<void>(scene.result(true, {rank, 2, add}));
    EXPECT_GT(worked_on, 0U);
    EXPECT_LT(worked_on, total.size());
  }
  EXPECT_TRUE(std::ranges::equal(total, alone.pixels()));
}

// Hosts and devices round otherwise.
TEST(StackSky, RoundingStaysRounding) {
  Scene scene(true);
  const Image result = scene.result();
  std::mt19937 random(7);
  std::uniform_real_distribution<float> share(-1e-6F, 1e-6F);
  for (float& value : scene.estimate.pixels()) value *= 1 + share(random);
  const Image other = scene.result();
  const float peak = *std::ranges::max_element(result.pixels());
  for (std::size_t i = 0; i < result.pixels().size(); ++i)
    ASSERT_NEAR(result.pixels()[i], other.pixels()[i], 3e-6F * peak);
}

}  // namespace
}  // namespace limpid::multiframe
