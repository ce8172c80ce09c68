// What one pass over a frame gives: sky, noise, stars, PSF.
#pragma once

#include <array>
#include <string>
#include <vector>

#include <limpid/multiframe.h>

#include "multiframe/survey.h"
#include "multiframe/thumbnail.h"

namespace limpid::multiframe {

/// A star as the comparison of frames needs it.
struct Point {
  float x = 0, y = 0;
  std::vector<float> flux;  ///< per channel; 0: not fitted there
  bool clean = false;       ///< fitted, neither clipped nor blended
};

/// What one pass over a frame gives.
struct Measured {
  Member member;
  std::vector<Point> points;
  int stars = 0;  ///< that the PSF comes from
  float fwhm_px = 0, ellipticity = 0, beta = 0;
  float wing_weight = 0;         ///< how well beta is known, see match_wings.h
  float widest_px = 0;           ///< FWHM that the kernel must have room for
  Thumbnail thumbnail;           ///< without_sky()
  std::vector<Thumbnail> light;  ///< of each channel, with its sky
  std::array<int, 4> digest{};   ///< of its pixels, 16 bits each
  std::string fault;             ///< why it cannot take part
};

/// Reads a frame once. Faults of its pixels are told in `fault`; what its reader throws is not
/// caught.
Measured measure(const InputFrame& frame, int index, Size size, const MultiframeOptions& options,
                 bool psf_needed);

/// Pixels of a part of a frame in shared units, one channel if `luma`.
Image read_working(const InputFrame& frame, Rect rect, bool luma);

}  // namespace limpid::multiframe
