#include "restore/clipped_areas.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace limpid {
namespace {

constexpr Size size{140, 120};
constexpr float fwhm = 3;

/// A burnt-out disc of 15 px radius, and what a network made of the frame: something else.
struct Scene {
  Image before{1, size, 0.2F}, after{1, size, 0.5F};
  StarCatalogue catalogue;

  explicit Scene(float radius = 15) {
    catalogue.sky.resize(1);
    catalogue.saturation = 1.0F;
    catalogue.frame = size;
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        if (std::hypot(x - 70, y - 60) < static_cast<double>(radius)) before.view()(0, y, x) = 1;
      }
    }
  }
  double keep(const std::vector<Rect>& spared = {}, Rect part = {0, 0, size.width, size.height},
              int threads = 2) {
    after = copy(after.view().crop(part));
    return keep_clipped_areas({before.view(), part, catalogue, fwhm, threads}, spared,
                              after.view());
  }
};

TEST(ClippedAreas, StayAsRecordedWithTheirBorder) {
  Scene scene;
  EXPECT_GT(scene.keep(), 0.03);
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      const double away = std::hypot(x - 70, y - 60);
      if (away < 15) {
        ASSERT_EQ(scene.after.view()(0, y, x), 1.0F) << x << ' ' << y;
      } else if (away > 45) {
        ASSERT_EQ(scene.after.view()(0, y, x), 0.5F) << x << ' ' << y;
      }
    }
  }
}

TEST(ClippedAreas, StarsThatWereUnderstoodAreSpared) {
  Scene scene;
  EXPECT_EQ(scene.keep({{54, 44, 33, 33}}), 0);
  EXPECT_EQ(scene.after.view()(0, 60, 70), 0.5F);
}

TEST(ClippedAreas, SmallCoresAreTheNetworks) {
  Scene scene(4);
  EXPECT_EQ(scene.keep(), 0);
}

TEST(ClippedAreas, APartIsWhatItIsInTheWhole) {
  Scene whole, part;
  whole.keep({}, {0, 0, size.width, size.height}, 1);
  const Rect box{78, 10, 50, 70};
  part.keep({}, box, 3);
  for (int y = 0; y < box.height; ++y) {
    for (int x = 0; x < box.width; ++x)
      ASSERT_EQ(part.after.view()(0, y, x), whole.after.view()(0, box.y + y, box.x + x));
  }
}

}  // namespace
}  // namespace limpid
