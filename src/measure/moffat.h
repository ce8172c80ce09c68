// The pixel-integrated elliptical Moffat profile, and its fit to one star.
#pragma once

#include <array>
#include <limits>
#include <optional>
#include <span>

#include <Eigen/Core>

#include <limpid/image.h>
#include <limpid/stars.h>

#include "core/lanes.h"

namespace limpid {

/// Psf::kernel() of one with this residual from that of its Moffat, which takes longest to draw.
Image with_residual(Image kernel, std::span<const float> residual);

inline constexpr double min_moffat_beta = 1.2, max_moffat_beta = 12.0;

/// Where a fit begins. Flux and sky need no start: they are linear and solved for.
struct MoffatStart {
  double x = 0, y = 0;  ///< centre, px, in the cutout
  double fwhm_px = 3, beta = 3, e1 = 0, e2 = 0;
};

struct MoffatOptions {
  /// Noise of the sky per pixel. 0: unknown or noiseless; all pixels weigh the same, and errors
  /// follow from the scatter of the residuals.
  double sky_sigma = 0;
  /// Photo-electrons per unit of pixel value; 0: no shot noise (variance is the sky's everywhere).
  double gain = 0;
  /// Error of the profile itself, as a share of the star's peak, the same in all pixels. Stars so
  /// bright that no Moffat meets them within the noise are then fitted with even weights, which
  /// describe the core; weights by noise alone would describe the faint wings.
  double model_error = 0;
  /// Pixels at or over this value are left out, like NaN.
  double saturation = std::numeric_limits<double>::infinity();
  /// One channel, the cutout's size; pixels that are not 0 are left out. Empty: no mask.
  ConstView mask;
  std::optional<double> fixed_beta, fixed_sky;
  /// The sky is a plane instead of a constant: for stars before nebulae.
  bool sloping_sky = false;
  /// Pixels that miss the fit by over this many robust sigmas, and by over a quarter of the star's
  /// own light there, are left out and the rest fitted again. 0: none are. Needs `sky_sigma`.
  double reject_sigma = 0;
  int max_iterations = 60;
};

struct MoffatParameters {
  double x = 0, y = 0, flux = 0, fwhm_px = 0, e1 = 0, e2 = 0, beta = 0, sky = 0;
};

struct MoffatFit {
  MoffatParameters value, error;  ///< errors are one sigma; 0 for what was held fixed
  double chi2 = 0;                ///< per degree of freedom; 1 by definition when sky_sigma is 0
  /// sqrt(sum of squared residuals, less what noise explains / sum of squared star light): how far
  /// from a Moffat on a plane it is.
  double misfit = 0;
  int pixels_used = 0;
  [[nodiscard]] Psf psf() const;
};

/// Least squares by Levenberg-Marquardt (Marquardt 1963, J. SIAM 11, 431). `cutout` has one
/// channel. Nothing when there are too few pixels, no light, or no sensible minimum.
std::optional<MoffatFit> fit_moffat(ConstView cutout, const MoffatStart& start,
                                    const MoffatOptions& options = {});

/// Columns of what MoffatProfile::terms gives, a pixel a row.
enum MoffatTerm {
  moffat_value,
  moffat_by_x,
  moffat_by_y,
  moffat_by_log_fwhm,
  moffat_by_e1,
  moffat_by_e2,
  moffat_by_beta,
  moffat_term_count
};
using MoffatTerms = Eigen::Matrix<double, Eigen::Dynamic, moffat_term_count>;

/// A Moffat profile of unit flux, ready to be evaluated at many pixels.
class MoffatProfile {
 public:
  MoffatProfile(double fwhm_px, double e1, double e2, double beta);

  /// The pixel's integral; `dx`, `dy` from the star's centre to the pixel's.
  [[nodiscard]] double pixel(double dx, double dy) const;
  /// The same of many pixels, together at a fraction of the cost.
  [[nodiscard]] Eigen::ArrayXd pixels(const Eigen::ArrayXd& dx, const Eigen::ArrayXd& dy) const;
  /// No pixel further off the star than that holds more.
  [[nodiscard]] double most_beyond(double distance_px) const;
  /// And how it changes with the star's place and with the profile.
  [[nodiscard]] MoffatTerms terms(const Eigen::ArrayXd& dx, const Eigen::ArrayXd& dy) const;

 private:
  // Inline: a shared library calls its own functions through a table otherwise, since another
  // library might replace them, and these are called for every few pixels. Not integral(), which
  // must be the same to the last bit wherever it is called from.
  using Sums = std::array<Lanes, moffat_term_count>;
  template <typename Number>
  [[nodiscard]] Number form(Number dx, Number dy) const;
  [[nodiscard]] inline Lanes laplacian(Lanes dx, Lanes dy, Lanes base) const;
  inline void add_point(Sums& sums, Lanes dx, Lanes dy, double weight) const;
  [[nodiscard]] Lanes integral(int rule, Lanes dx, Lanes dy) const;
  [[nodiscard]] inline Sums integrals(int rule, Lanes dx, Lanes dy) const;
  [[nodiscard]] inline int rule_at(double dx, double dy) const;
  template <typename Work>
  void for_lanes(const Eigen::ArrayXd& dx, const Eigen::ArrayXd& dy, const Work& work) const;

  double beta_, e1_, e2_, ellipticity_;
  double round_, stretch_;  // C and H of the quadratic form, see form()
  double inverse_area_;     // kappa = 1 / a^2
  double peak_;             // (beta - 1) kappa / pi
  double smoothness_;       // b^2 / (2 beta): squared length over which the core changes, px^2
  double kappa_by_beta_;    // d ln kappa / d beta
};

}  // namespace limpid
