// A star's measured and wanted PSFs, and how errors of place, width and shape look in both.
#pragma once

#include <array>
#include <complex>
#include <span>
#include <vector>

#include <limpid/image.h>
#include <limpid/network.h>
#include <limpid/stars.h>

#include "core/fft.h"

namespace limpid {

/// What may be wrong with a star, as differences of its profile f, in steps of half a pixel: f
/// (light), f_x, f_y (place), f_xx, f_xy, f_yy (width and shape), and the gradient of f_xx + f_yy
/// (coma).
inline constexpr int term_count = 8;

/// What each term multiplies a profile's transform by, for squares of this side; shifts it to the
/// square's middle, too.
Spectrum term_transfers(int side);

/// Measured and wanted PSFs whose centres lie (dx, dy) off the middle of a pixel, and their terms.
class Optics {
 public:
  /// The wanted PSF is `wider` times as wide as the controls say.
  Optics(const TileControls& controls, int channels, const Spectrum& terms, int reach, float dx,
         float dy, double wider = 1);
  [[nodiscard]] float dx() const { return dx_; }
  [[nodiscard]] float dy() const { return dy_; }
  [[nodiscard]] double sigma_px() const { return static_cast<double>(psf_.fwhm_px) / 2.355; }
  [[nodiscard]] double measured_sigma_px(int channel) const {
    return measured_sigma_px_[static_cast<std::size_t>(channel)];
  }
  [[nodiscard]] std::span<const std::complex<float>> wanted() const { return transfers_.plane(0); }
  [[nodiscard]] std::span<const std::complex<float>> measured(int channel) const {
    return transfers_.plane(1 + channel);
  }
  /// From the place that weighted fits of stars find to the one that their cores show, px. Coma
  /// draws the former out into the wings, the more the fainter they count.
  [[nodiscard]] std::array<double, 2> to_core() const { return to_core_; }
  /// The wanted PSF about (dx, dy) beside the middle of a square, sums to 1.
  [[nodiscard]] Image drawn(float dx, float dy, int side_px) const;
  /// (term_count, 2 reach + 1, 2 reach + 1), centre in the middle.
  [[nodiscard]] ConstView wanted_terms() const { return wanted_terms_.view(); }
  /// (term_count, side, side), centre at (side / 2, side / 2).
  [[nodiscard]] ConstView measured_terms(int channel) const {
    return measured_terms_[static_cast<std::size_t>(channel)].view();
  }

 private:
  void draw_wanted(ConstView kernel, int reach);
  void find_core(const TileControls& controls);

  float dx_, dy_;
  Psf psf_;
  std::vector<double> measured_sigma_px_;
  std::array<double, 2> to_core_{};
  Spectrum transfers_;  ///< of the wanted PSF, then of the measured ones
  Image wanted_terms_;
  std::vector<Image> measured_terms_;
};

}  // namespace limpid
