// What befalls the light on its way into a frame beside the telescope: drizzle, narrow bands,
// stretches; and the galaxies that fill a frame with few stars.
#pragma once

#include "train/simulator.h"

namespace limpid {

/// The kind of scene `index`, from a random stream of its own: plain scenes are what they would be
/// without the other kinds.
Recording draw_recording(std::uint64_t seed, std::uint64_t index);

/// A telescope's PSF after 2x drizzle (Fruchter & Hook 2002, PASP 114, 144): pixels twice as wide
/// as those of the result, averaged over drops of `drop` (0.5 to 1) recorded pixels. Nothing when
/// it has become too wide to be described.
std::optional<BankPsf> drizzled(const BankPsf& psf, double drop);
/// Noise of unit variance; `correlated`: as registration, or drizzle onto a finer grid, leaves it:
/// (channels, height, width).
torch::Tensor draw_noise(Random& random, int channels, int height, int width, bool correlated);
/// Noise of unit variance as such a drizzle of many frames leaves it: (channels, height, width).
torch::Tensor drizzled_noise(Random& random, int channels, int height, int width, double drop);

/// One disc galaxy with bulge, arms, dust and knots in the middle of the field: (3, side, side) in
/// [0,1], dark at its rim.
torch::Tensor draw_galaxy(Random& random, int side);

/// A histogram transformation, in units of the sky noise over the sky: the midtones function m
/// (XISF 1.0, 8.5.7) of the range from black to full scale, divided by its slope at the sky, so
/// that the noise there stays one.
struct Stretch {
  double midtones = 0.5, black = 30, full_scale = 1000;  ///< sky over black, clipping over sky
  [[nodiscard]] torch::Tensor apply(const torch::Tensor& light) const;
  /// How much wider a star of this peak looks.
  [[nodiscard]] double widening(const torch::Tensor& oversampled, double peak) const;
};
Stretch draw_stretch(Random& random, double full_scale);

}  // namespace limpid
