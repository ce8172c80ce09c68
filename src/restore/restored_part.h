// What is mended after the network.
#pragma once

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// A frame of which a part was restored.
struct RestoredPart {
  ConstView before;                ///< the whole frame, without gaps
  Rect part;                       ///< which part of it was restored
  const StarCatalogue& catalogue;  ///< of the whole frame
  float fwhm_px = 0;               ///< typical, of the frame
  int threads = 0;
};

}  // namespace limpid
