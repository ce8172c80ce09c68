// The PSFs of all frames as kernels on the grid that is solved on.
#pragma once

#include <span>
#include <vector>

#include <limpid/multiframe.h>

#include "core/fft_columns.h"
#include "multiframe/survey.h"

namespace limpid::multiframe {

/// The PSF of a member around a place: (1, side, side), not negative, sums to 1, centred on
/// (side / 2, side / 2) plus the member's shift plus (shift_u, shift_v).
Image kernel_at(const Member& member, const InputFrame& frame, float x, float y, int channel,
                int side, float shift_u = 0, float shift_v = 0);

/// How far kernels reach from their centre, in frame pixels.
int native_reach(std::span<const InputFrame> frames, const Survey& survey);

/// Per cell of the grid: kernels of this host's members, of all channels, on the fine grid; empty
/// images for the others.
std::vector<std::vector<Image>> make_kernels(std::span<const InputFrame> frames,
                                             const Survey& survey, const MultiframeOptions& options,
                                             int reach, const Progress& progress);

/// What a product with a spectrum of `size` convolves by, over the number of pixels, by which
/// inverse_fft_columns() does not divide.
ColumnSpectrum scaled_transfer(const Image& kernel, Size size);

}  // namespace limpid::multiframe
