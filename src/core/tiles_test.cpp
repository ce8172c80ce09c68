#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include <limpid/tiles.h>

namespace limpid {
namespace {

Image noise(int channels, Size size) {
  Image image(channels, size);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (float& pixel : image.pixels()) pixel = normal(random);
  return image;
}

Image blend_untouched(const Image& frame, const TileGrid& grid) {
  TileBlender blender(grid, frame.channels());
  for (int i = 0; i < grid.count(); ++i) blender.add(i, grid.extract(frame.view(), i).view());
  return std::move(blender).finish();
}

TEST(TileGrid, BlendOfUntouchedTilesIsTheFrame) {
  // smaller than a tile, equal to it, one pixel more, and sizes that force a larger overlap
  const Size sizes[] = {{5, 3}, {64, 64}, {65, 64}, {100, 37}, {127, 129}, {300, 211}};
  for (const Size size : sizes) {
    for (const auto& [overlap, align] :
         {std::pair{0, 1}, std::pair{1, 1}, std::pair{13, 1}, std::pair{32, 1}, std::pair{0, 8},
          std::pair{13, 8}, std::pair{32, 16}}) {
      const Image frame = noise(2, size);
      const Image out = blend_untouched(frame, TileGrid(size, 64, overlap, align));
      for (std::size_t i = 0; i < frame.pixels().size(); ++i) {
        // four products of two rounded weights each
        ASSERT_NEAR(out.pixels()[i], frame.pixels()[i], 1e-6F * std::abs(frame.pixels()[i]) + 1e-7F)
            << size.width << " x " << size.height << " overlap " << overlap << " pixel " << i;
      }
    }
  }
}

TEST(TileGrid, TilesNeedNotBeSquare) {
  const Image frame = noise(1, {300, 211});
  const TileGrid grid(frame.size(), {112, 72}, {20, 16}, 8);
  EXPECT_EQ(grid.columns(), 4);  // (300 - 20) / (112 - 20), and (211 - 16) / (72 - 16)
  EXPECT_EQ(grid.rows(), 4);
  EXPECT_EQ(grid.tile(5).size(), (Size{112, 72}));
  const Image out = blend_untouched(frame, grid);
  for (std::size_t i = 0; i < frame.pixels().size(); ++i)
    ASSERT_NEAR(out.pixels()[i], frame.pixels()[i], 1e-6F * std::abs(frame.pixels()[i]) + 1e-7F);
}

TEST(TileGrid, NeighboursShareAtLeastTheOverlapAndReachBothEdges) {
  for (int width = 65; width < 400; width += 7) {
    const TileGrid grid({width, 64}, 64, 20);
    EXPECT_EQ(grid.tile(0).x, 0);
    EXPECT_EQ(grid.tile(grid.columns() - 1).x + 64, width);
    for (int i = 1; i < grid.columns(); ++i) {
      EXPECT_LE(grid.tile(i).x - grid.tile(i - 1).x, 64 - 20);
    }
  }
}

TEST(TileGrid, TilesBeginAtMultiplesWhenAsked) {
  for (int width = 10; width < 400; width += 7) {
    const TileGrid grid({width, 64}, 64, 20, 8);
    EXPECT_LE(grid.tile(0).x, 0);
    EXPECT_GE(grid.tile(grid.columns() - 1).x + 64, width);
    EXPECT_LT(grid.tile(grid.columns() - 1).x + 64, std::max(width + 8, 65));
    for (int i = 0; i < grid.columns(); ++i) {
      EXPECT_EQ(grid.tile(i).x % 8, 0);
      EXPECT_LE(grid.tile(i).x - grid.tile(std::max(0, i - 1)).x, 64 - 20 + 8);
    }
  }
}

TEST(TileGrid, AFrameSmallerThanATileLiesInItsMiddle) {
  const TileGrid grid({20, 30}, 64, 12);
  ASSERT_EQ(grid.count(), 1);
  EXPECT_EQ(grid.tile(0), (Rect{-22, -17, 64, 64}));
}

TEST(TileBlender, AStepBetweenTilesIsSpreadSmoothlyOverTheOverlap) {
  // Tiles of value 0 and 1: what is left of the seam is the window itself, which rises over the 20
  // shared pixels by at most pi / 2 / 20 from pixel to pixel (slope of the raised cosine).
  const TileGrid grid({108, 64}, 64, 20);
  ASSERT_EQ(grid.columns(), 2);
  TileBlender blender(grid, 1);
  blender.add(0, Image(1, {64, 64}, 0.0F).view());
  blender.add(1, Image(1, {64, 64}, 1.0F).view());
  const Image out = std::move(blender).finish();
  for (int x = 1; x < 108; ++x) {
    const float step = out.view()(0, 30, x) - out.view()(0, 30, x - 1);
    EXPECT_GE(step, 0.0F);
    EXPECT_LE(step, 1.5708F / 20 + 1e-6F);
  }
  EXPECT_EQ(out.view()(0, 30, 43), 0.0F);
  EXPECT_EQ(out.view()(0, 30, 64), 1.0F);
}

TEST(TileBlender, AFadeMayBeNarrowerThanTheOverlap) {
  const TileGrid grid({108, 64}, {64, 64}, {20, 20}, 1, {8, 8});
  ASSERT_EQ(grid.columns(), 2);
  // shared from 44 to 63, blended from 50 to 57
  EXPECT_EQ(grid.needed(0), (Rect{0, 0, 58, 64}));
  EXPECT_EQ(grid.needed(1), (Rect{6, 0, 58, 64}));
  TileBlender blender(grid, 1);
  blender.add(0, Image(1, {58, 64}, 0.0F).view(), grid.needed(0));
  blender.add(1, Image(1, {64, 64}, 1.0F).view());
  const Image out = std::move(blender).finish();
  for (int x = 0; x < 108; ++x) {
    const float value = out.view()(0, 30, x);
    if (x < 50 || x > 57) {
      EXPECT_EQ(value, x < 50 ? 0.0F : 1.0F) << x;
    } else {
      EXPECT_LE(value - out.view()(0, 30, x - 1), 1.5708F / 8 + 1e-6F) << x;
    }
  }
}

TEST(TileGrid, WhatIsNeededOfItsTilesIsTheFrame) {
  for (const Size size : {Size{20, 30}, Size{65, 64}, Size{127, 129}, Size{300, 211}}) {
    for (const int align : {1, 8}) {
      const Image frame = noise(1, size);
      const TileGrid grid(size, {64, 64}, {24, 20}, align, {8, 6});
      TileBlender blender(grid, 1);
      for (int i = 0; i < grid.count(); ++i) {
        const Rect part = grid.needed(i);
        const Image tile = grid.extract(frame.view(), i);
        blender.add(i, copy(tile.view().crop(part)).view(), part);
      }
      const Image out = std::move(blender).finish();
      for (std::size_t i = 0; i < frame.pixels().size(); ++i)
        ASSERT_NEAR(out.pixels()[i], frame.pixels()[i],
                    1e-6F * std::abs(frame.pixels()[i]) + 1e-7F);
    }
  }
}

TEST(TileBlender, NoDataWhereAWindowIsZeroDoesNotSpreadToTheNeighbour) {
  const Image frame(1, {120, 64}, 1.0F);
  const TileGrid grid(frame.size(), 64, 8);
  TileBlender blender(grid, 1);
  for (int i = 0; i < grid.count(); ++i) {
    Image tile = grid.extract(frame.view(), i);
    // three tiles would fit; the pixel at the very rim of the first belongs to the second
    if (i == 0) tile.view()(0, 10, 63) = std::numeric_limits<float>::quiet_NaN();
    blender.add(i, tile.view());
  }
  const Image out = std::move(blender).finish();
  int lost = 0;
  for (const float pixel : out.pixels()) lost += std::isnan(pixel) ? 1 : 0;
  EXPECT_LE(lost, 1);
}

}  // namespace
}  // namespace limpid
