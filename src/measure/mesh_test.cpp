#include "measure/mesh.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(Mesh, FollowsASlopeBetweenTheCells) {
  Image frame(1, {320, 256});
  for (int y = 0; y < 256; ++y) {
    for (int x = 0; x < 320; ++x) frame.view()(0, y, x) = 0.001F * static_cast<float>(x) + 0.5F;
  }
  const Mesh mesh(frame.view(), Coverage(frame.view()), 32, sky_level, 1);
  // within the outermost centres, which the 3 by 3 median keeps from being followed fully
  EXPECT_NEAR(mesh.at(160, 100), 0.66F, 0.002F);
  EXPECT_NEAR(mesh.at(100, 30), 0.60F, 0.002F);
}

}  // namespace
}  // namespace limpid
