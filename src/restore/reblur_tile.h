// The re-blurring test of one tile.
#pragma once

#include "restore/reblur.h"

namespace limpid {

/// What the test says of a tile.
struct TileTest {
  Image residual;  ///< re-blurred result minus frame, in units of the noise
  /// (1, h, w): 1 in the bright parts of stars, 2 where they are within five FWHM of clipped
  /// pixels.
  Image at_star;
};

/// Of a frame whose stars take up `discs` (1, h, w). What was found at S/N under 12 may be a star
/// or a knot of a nebula, which are blurred back from different PSFs: the result explains the frame
/// where it does as either. `sure` are the stars of more.
class TileTester {
 public:
  TileTester(const ReblurInput& in, ConstView discs);
  /// Every tile is blurred at `full` size, that plans of transforms are kept.
  [[nodiscard]] TileTest test(Rect tile, Size full) const;

 private:
  [[nodiscard]] TileTest compare(Rect tile, Rect around, const Image& discs,
                                 const TileControls& controls, const Image& clipped) const;
  [[nodiscard]] Image sure_discs(Rect around) const;
  [[nodiscard]] Image beside_clipped(Rect tile) const;
  const ReblurInput& in_;
  ConstView discs_;
  StarCatalogue sure_;
  std::vector<Star> doubtful_;
};

}  // namespace limpid
