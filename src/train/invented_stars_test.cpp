#include "train/invented_stars.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include <limpid/stars.h>

namespace limpid {
namespace {

Image noise(unsigned seed) {
  Image picture(3, {160, 160});
  std::mt19937 random(seed);
  std::normal_distribution<float> sigma;
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < 160; ++y) {
      for (float& value : picture.view().row(c, y)) value = sigma(random);
    }
  }
  return picture;
}

void add_star(Image& to, int x, int y, float flux, float fwhm_px) {
  const Image kernel = Psf{.fwhm_px = fwhm_px, .beta = 4}.kernel(25);
  for (int c = 0; c < 3; ++c) {
    for (int dy = 0; dy < 25; ++dy) {
      for (int dx = 0; dx < 25; ++dx)
        to.view()(c, y - 12 + dy, x - 12 + dx) += flux * kernel.view()(0, dy, dx);
    }
  }
}

TEST(InventedStars, NoneInNoise) {
  const auto counted = invented_stars(noise(1).view(), noise(1).view());
  EXPECT_EQ(counted.unseen, 0);
  EXPECT_EQ(counted.invented, 0);
}

TEST(InventedStars, OneThatTheWantedPictureHasNot) {
  const Image wanted = noise(2);
  Image result = noise(2);
  add_star(result, 60, 90, 150, 2.5F);
  const auto counted = invented_stars(result.view(), wanted.view());
  EXPECT_EQ(counted.unseen, 1);
  EXPECT_EQ(counted.invented, 1);
}

TEST(InventedStars, NotOneThatBothShow) {
  Image wanted = noise(3), result = noise(3);
  add_star(wanted, 60, 90, 140, 2.5F);
  add_star(result, 60, 90, 150, 2.4F);
  EXPECT_EQ(invented_stars(result.view(), wanted.view()).unseen, 0);
}

/// A knot of the truth, on the threshold: the wanted picture has it, though it passes for no star.
TEST(InventedStars, NotLightThatTheTruthHas) {
  const Image empty = noise(4);
  Image wanted = noise(4), result = noise(4);
  for (int y = 30; y < 150; y += 20) {
    for (int x = 30; x < 150; x += 20) {
      add_star(result, x, y, 20, 2.5F);
      add_star(wanted, x, y, 13, 2.5F);
    }
  }
  const auto counted = invented_stars(result.view(), wanted.view());
  EXPECT_GT(counted.unseen, 0);
  EXPECT_EQ(counted.invented, 0);
  EXPECT_GT(invented_stars(result.view(), empty.view()).invented, 10);
}

/// A bright band beside it does not hide one: most of what is around it is dark.
TEST(InventedStars, OneBesideABrightBand) {
  Image wanted = noise(5), result = noise(5);
  for (Image* picture : {&wanted, &result}) {
    for (int y = 20; y < 150; y += 30) add_star(*picture, 130, y, 300, 2.5F);  // tell the width
    for (int c = 0; c < 3; ++c) {
      for (int y = 70; y < 110; ++y) {
        for (int x = 0; x < 160; ++x) {
          const float away = static_cast<float>(x - 67) / 2;
          picture->view()(c, y, x) += 12 * std::exp(-away * away / 2);
        }
      }
    }
  }
  add_star(result, 60, 90, 60, 2.5F);
  EXPECT_EQ(invented_stars(result.view(), wanted.view()).invented, 1);
}

/// Where a bend of a ridge is found as a star, only light that stands out was invented.
TEST(InventedStars, NotABendOfARidge) {
  const auto bent = [](float sharpness) {
    Image picture = noise(6);
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < 160; ++y) {
        for (int x = 0; x < 160; ++x) {
          const float away =
              std::abs(static_cast<float>(x) - 80 - 6 * std::sin(static_cast<float>(y) / 5));
          picture.view()(c, y, x) += 60 * std::exp(-away * sharpness);
        }
      }
    }
    return picture;
  };
  const auto counted = invented_stars(bent(0.5F).view(), bent(0.45F).view());
  EXPECT_EQ(counted.invented, 0);
}

}  // namespace
}  // namespace limpid
