// Point spread functions by Fourier optics: telescope pupil, seeing, guiding and pixel.
#pragma once

#include <torch/torch.h>

#include <array>

#include <limpid/stars.h>
#include <limpid/training.h>

#include "core/random.h"

namespace limpid {

/// Samples per pixel of a rendered PSF, its side in pixels, and both multiplied.
inline constexpr int psf_oversampling = 4, psf_side_px = 64;
inline constexpr int psf_grid = psf_oversampling * psf_side_px;

/// One channel's optics. Wavefront terms are rms waves of Noll-normalised Zernike polynomials
/// (Noll 1976, JOSA 66, 207), each with its direction.
struct Optics {
  double diffraction_px = 0.6;  ///< lambda / D on the sensor
  double obstruction = 0;       ///< diameter of the secondary over that of the primary
  int vanes = 0;
  double vane_width = 0, vane_angle_rad = 0;  ///< width in pupil radii
  double defocus = 0, spherical = 0;
  double astigmatism = 0, astigmatism_angle_rad = 0;
  double coma = 0, coma_angle_rad = 0;
  double second_coma = 0, second_coma_angle_rad = 0;
  double trefoil = 0, trefoil_angle_rad = 0;
  /// Long-exposure Kolmogorov turbulence (Fried 1966, JOSA 56, 1372).
  double seeing_fwhm_px = 2;
  /// Guiding: a Gaussian along one direction (rms) and a steady drift (length).
  double jitter_px = 0, drift_px = 0, motion_angle_rad = 0;
  double shift_x_px = 0, shift_y_px = 0;  ///< lateral colour
};

/// Shape (psf_grid, psf_grid): light per pixel at a quarter-pixel pitch, centred on sample
/// (psf_grid / 2, psf_grid / 2); each of the 16 sub-grids of whole pixels sums to about 1.
torch::Tensor render_psf(const Optics& optics);

/// The whole-pixel sub-grid whose centre sample is the PSF's centre: (psf_side_px, psf_side_px).
torch::Tensor central_phase(const torch::Tensor& oversampled);

/// The best Moffat description of an oversampled PSF; nothing when it cannot be described.
std::optional<Psf> describe_psf(const torch::Tensor& oversampled);

/// A Moffat profile, round or not, at the sampling of render_psf.
torch::Tensor oversampled_moffat(const Psf& psf);

/// The optics of the three channels, drawn for one kind of fault. `fwhm_px` is the size aimed at.
std::array<Optics, 3> draw_optics(Random& random, Aberration aberration, double fwhm_px);
/// Nearby in the same field: the same optics with slightly other aberrations.
std::array<Optics, 3> draw_neighbour(Random& random, std::array<Optics, 3> optics);

}  // namespace limpid
