// The fine grid: how an image gets there, and what a PSF looks like on it.
#pragma once

#include <functional>

#include <limpid/image.h>

namespace limpid::multiframe {

struct LiftOptions {
  int factor = 2;
  float sigma_px = 1.1F;  ///< of the fine grid
  int iterations = 250;
};
/// The kernel f >= 0, shape (1, side, side), of sum 1 for which a star of the result, a Gaussian g of
/// `sigma_px`, gives what the frame records: the sum over a block of f * g is the pixel's light.
/// Found by Richardson-Lucy (Richardson 1972, JOSA 62, 55; Lucy 1974, AJ 79, 745).
/// `native(shift_u, shift_v)` is the frame's kernel, odd side, with its centre moved by that.
Image lift_kernel(const std::function<Image(float, float)>& native, const LiftOptions& options);

/// A kernel moved by a part of a pixel, by cubic convolution (Keys 1981, IEEE TASSP 29, 1153).
Image moved(ConstView kernel, float shift_u, float shift_v);

/// `factor` times the pixels per side, smooth (cubic convolution), the same light in every block on
/// average: values are divided by factor squared.
Image refine(ConstView frame, int factor);

}  // namespace limpid::multiframe
