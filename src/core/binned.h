// Frames of larger pixels.
#pragma once

#include <algorithm>

#include <limpid/image.h>

namespace limpid {

/// Means of factor x factor pixels; rows and columns that fill no block are left out.
Image binned(ConstView frame, int factor);

/// The four pixels of `factor` times the size between whose centres a pixel lies, cut at the rim,
/// and how far it is from the first.
struct BetweenBinned {
  int x0, y0, x1, y1;
  float fx, fy;
  BetweenBinned(int x, int y, Size coarse, int factor) {
    const auto along = [factor](int at, int length) {
      return std::clamp((static_cast<float>(at) + 0.5F) / static_cast<float>(factor) - 0.5F, 0.0F,
                        static_cast<float>(length - 1));
    };
    const float u = along(x, coarse.width), v = along(y, coarse.height);
    x0 = static_cast<int>(u), y0 = static_cast<int>(v);
    x1 = std::min(x0 + 1, coarse.width - 1), y1 = std::min(y0 + 1, coarse.height - 1);
    fx = u - static_cast<float>(x0), fy = v - static_cast<float>(y0);
  }
  /// Bilinear of what at(y, x) tells of the four.
  template <typename At>
  [[nodiscard]] float mixed(const At& at) const {
    return (1 - fy) * ((1 - fx) * at(y0, x0) + fx * at(y0, x1)) +
           fy * ((1 - fx) * at(y1, x0) + fx * at(y1, x1));
  }
};

}  // namespace limpid
