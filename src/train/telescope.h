// The telescopes that scenes are seen through.
#pragma once

#include <optional>

#include "train/pupil.h"

namespace limpid {

/// One telescope: an oversampled PSF per channel, here and a little further on in the field.
struct BankPsf {
  torch::Tensor here, there;  ///< (3, psf_grid, psf_grid)
  std::array<Psf, 3> described, described_there;
  Aberration aberration = Aberration::none;
};

/// A kind of fault, each as often as training shall show it.
Aberration draw_aberration(Random& random);
/// A telescope with this fault whose stars are about `fwhm_px` wide; three in ten differ within the
/// field. Nothing when a channel is too wide, too narrow or too long to be described.
std::optional<BankPsf> draw_psf(Random& random, Aberration aberration, double fwhm_px);
/// The same mirrored and turned as turned() does it, channel c from order[c].
BankPsf turned_psf(const BankPsf& psf, int turn, const std::array<int, 3>& order);

}  // namespace limpid
