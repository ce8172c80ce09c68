// A frame in few cells: whether two frames of few stars show the same thing, and how bright.
#pragma once

#include <vector>

#include <limpid/image.h>

#include "measure/coverage.h"

namespace limpid::multiframe {

struct Thumbnail {
  int width = 0, height = 0;
  std::vector<float> cells;  ///< means of the pixels; NaN where there are none

  [[nodiscard]] float at(int x, int y) const {
    return cells[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) +
                 static_cast<std::size_t>(x)];
  }
};

/// Sums of all channels. `coverage` has one entry per channel, or is empty: all pixels count.
Thumbnail make_thumbnail(ConstView image, const std::vector<Coverage>& coverage = {});

/// The thumbnail without its sky (a surface of second order), in units that bring the noise to one
/// and flatten what is bright; zero where nothing is known.
Thumbnail without_sky(const Thumbnail& thumbnail);

/// given = level + slope * stack
struct Line {
  double level = 0, slope = 0;
  double error = 0;  ///< of the slope
};
/// The sky from the cells where the stack shows no light, the slope from the light of 3 x 3 cells
/// about its bright ones: blurs differ, and what only one of them shows must not count. Slope 0
/// where nothing is bright. For thumbnails with their sky and of the same shape.
Line fit_line(const Thumbnail& given, const Thumbnail& stack);

/// For thumbnails without_sky() of the same shape: they agree, more than noise would, and more than
/// if one of them lay elsewhere.
bool show_the_same(const Thumbnail& a, const Thumbnail& b);

}  // namespace limpid::multiframe
