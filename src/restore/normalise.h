// Into the network's range, and exactly back.
#pragma once

#include <optional>
#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// Units of the sky noise over the sky, per channel; one channel becomes three copies.
class Normalisation {
 public:
  /// Noise of zero (constant or noiseless frames) is replaced by a small share of the range.
  Normalisation(std::vector<SkyLevel> sky, ConstView frame, int threads = 0);
  /// (3, h, w) from (1 or 3, h, w).
  [[nodiscard]] Image apply(ConstView tile) const;
  /// (1 or 3, h, w) from (3, h, w); of three copies the mean.
  [[nodiscard]] Image undo(ConstView tile) const;
  [[nodiscard]] const std::vector<SkyLevel>& sky() const { return sky_; }

 private:
  std::vector<SkyLevel> sky_;
};

/// 1 where a frame has no data: NaN or infinite, and zero or full-scale borders (connected to the
/// frame's edge, equal in all channels, at least `smallest_border_px` of them). Empty when there is
/// none.
Image find_missing(ConstView frame, int threads = 0);
inline constexpr std::size_t smallest_border_px = 64;

/// A smooth continuation into the gaps of frames (pull-push, Gortler et al. 1996, SIGGRAPH 43).
/// Coarser frames are made only where a gap needs them.
class GapFilling {
 public:
  /// Of (1, h, w): not 0 in gaps.
  explicit GapFilling(ConstView missing);
  /// Replaces what is in the gaps.
  void fill(MutableView frame) const;

 private:
  struct Place {
    int x, y;
  };
  /// Each has half the pixels of the one before, along both axes.
  struct Level {
    Size size;
    std::vector<char> missing, needed;
    std::vector<Place> gaps;   ///< the missing ones
    std::vector<Place> means;  ///< the needed ones, which are made of the level before
  };
  void add_coarser();
  std::vector<Level> levels_;
};

/// The same for one frame.
void fill_missing(MutableView frame, ConstView missing);

}  // namespace limpid
