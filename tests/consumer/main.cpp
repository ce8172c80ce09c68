// Cuts a frame into tiles and puts it together again, with nothing but the installed headers.
#include <cmath>
#include <cstdio>
#include <utility>

#include <limpid/stars.h>
#include <limpid/tiles.h>

int main() {
  limpid::Image frame(1, {300, 200}, 0.25F);
  frame.view()(0, 100, 150) = 1.0F;
  const limpid::TileGrid grid(frame.size(), 128, 32);
  limpid::TileBlender blender(grid, frame.channels());
  for (int i = 0; i < grid.count(); ++i) blender.add(i, grid.extract(frame.view(), i).view());
  const limpid::Image back = std::move(blender).finish();
  const float error = std::abs(back.view()(0, 100, 150) - 1.0F);
  std::printf("%d tiles, error %g, %zu stars\n", grid.count(), static_cast<double>(error),
              limpid::detect_stars(back.view()).stars.size());
  return error < 1e-6F ? 0 : 1;
}
