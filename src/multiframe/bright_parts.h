// Where the seed shows light: nothing may be darker than the sky there, and no light may be won or
// lost by it.
#pragma once

#include <cstddef>
#include <vector>

#include <limpid/image.h>

namespace limpid::multiframe {

/// The parts of a picture that hang together and show light over the sky, each channel by itself.
class BrightParts {
 public:
  BrightParts() = default;
  /// Light is seen in a pixel five sigmas over the level, and as surely in the mean of 5 x 5 pixels
  /// that is one sigma over it: the wings of a star, from which its dark ring is dug.
  BrightParts(ConstView image, float level, float sigma);

  /// Raises what is under `darkest` in a part to it, and takes as much light from what lies over
  /// `level` in the same part if that `pays`: a star whose core no frame tells of has no way to get
  /// it back.
  void lift(MutableView image, float darkest, float level, bool pays, int threads) const;

 private:
  struct Run {
    int channel = 0, y = 0, begin = 0, end = 0;  ///< of a row
    std::size_t part = 0;
  };
  std::vector<Run> runs_;
  std::size_t parts_ = 0;
};

}  // namespace limpid::multiframe
