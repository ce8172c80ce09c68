// The re-blurring test of one tile.
#pragma once

#include "restore/reblur.h"

namespace limpid {

/// Where the test of a tile is written.
struct TileTest {
  MutableView residual;  ///< re-blurred result minus frame, in units of the noise
  /// (1, h, w): 1 in the bright parts of stars, 2 where they are within five FWHM of clipped
  /// pixels, 0 elsewhere.
  MutableView at_star;
};

/// What was found at S/N under 12 may be a star or a knot of a nebula, which are blurred back from
/// different PSFs: the result explains the frame where it does as either. `sure` are the stars of
/// more.
class TileTester {
 public:
  explicit TileTester(const ReblurInput& in);
  /// Every tile is blurred at `full` size, that plans of transforms are kept.
  void test(Rect tile, Size full, TileTest out) const;

 private:
  class BlurredBack;
  [[nodiscard]] Image discs(const StarCatalogue& catalogue, Rect around) const;
  [[nodiscard]] Image beside_clipped(Rect tile) const;
  void compare(Rect tile, const BlurredBack& blurred, const Image& stars, const Image& clipped,
               TileTest out) const;

  const ReblurInput& in_;
  StarCatalogue sure_;
  std::vector<Star> doubtful_;
};

}  // namespace limpid
