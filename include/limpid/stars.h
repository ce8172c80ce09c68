// Stars, and how the point spread function changes over a frame.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <limpid/image.h>
#include <limpid/progress.h>

namespace limpid {

/// Elliptical Moffat profile I(r) = I0 [1 + (r/a)^2]^-beta, FWHM = 2 a sqrt(2^(1/beta) - 1)
/// (Moffat 1969, A&A 3, 455), integrated over each pixel. `fwhm_px` is sqrt(major * minor) of the
/// profile before pixel integration.
struct Psf {
  float fwhm_px = 0, beta = 0;
  float e1 = 0, e2 = 0;  ///< ellipticity 1 - b/a times (cos 2 angle, sin 2 angle)
  float dx = 0, dy = 0;  ///< lateral colour: this channel's centroid minus the channels' mean, px
  [[nodiscard]] float ellipticity() const;   ///< 1 - b/a
  [[nodiscard]] float eccentricity() const;  ///< sqrt(1 - (b/a)^2), what PixInsight prints
  [[nodiscard]] float angle_rad() const;     ///< of the major axis, from +x towards +y
  /// Shape (1, side, side), sums to 1, centred on pixel (side/2, side/2) plus (dx, dy).
  /// `residual`: rows of the same size added to the profile, in shares of the flux; or nothing.
  [[nodiscard]] Image kernel(int side_px, std::span<const float> residual = {}) const;
  bool operator==(const Psf&) const = default;
};

/// A fit of one star in one channel, with one-sigma errors.
struct StarFit {
  Psf psf;
  float x = 0, y = 0, flux = 0, peak = 0, sky = 0;
  float x_error = 0, y_error = 0, flux_error = 0, fwhm_error = 0, ellipticity_error = 0;
  float beta_error = 0;  ///< 0 where beta was held at the frame's typical one
  float chi2 = 0;        ///< per degree of freedom
};

struct Star {
  float x = 0, y = 0;  ///< px, pixel centres at whole numbers
  float flux = 0;      ///< sum over channels, in the frame's units
  float peak = 0;      ///< highest pixel over the local sky
  /// Over the local scatter, that of nebulae included: points over these may have less than the
  /// threshold of detection.
  float snr = 0;
  float fwhm_px = 0, ellipticity = 0;  ///< mean over the fitted channels; 0 when not fitted
  bool saturated = false, blended = false, on_edge = false,
       artefact = false;  ///< cosmic ray, hot pixel
  /// One per channel when the star was fitted, else empty. A channel in which the star is too faint
  /// or clipped has psf.fwhm_px 0.
  std::vector<StarFit> fits;
};

/// Sky level and noise of one channel, in the frame's units.
struct SkyLevel {
  float sky = 0, sigma = 0;
};

/// Brightest first.
struct StarCatalogue {
  std::vector<Star> stars;
  std::vector<SkyLevel> sky;        ///< per channel
  std::optional<float> saturation;  ///< level at which cores are clipped, if any are
  Size frame;
  /// Noise over the width of a star, over what pixels with independent noise would show there.
  float noise_correlation = 1;
};

struct DetectOptions {
  /// Of the matched-filtered frame's local scatter; points over nebulae, where that is more than
  /// noise, are found from 1.6 times that many sigma of the noise on.
  float threshold_sigma = 5.0F;
  int max_fits =
      2000;         ///< isolated unsaturated stars fitted, brightest first, spread over the frame
  int threads = 0;  ///< 0: all cores
};

/// Sky and noise by clipped statistics on a mesh; noise from the pixels' own scatter, so that
/// nebulosity does not count as noise. NaN and exact-zero borders are left out.
std::vector<SkyLevel> measure_sky(ConstView frame);

/// Finds and fits. A constant or empty frame gives an empty catalogue.
StarCatalogue detect_stars(ConstView frame, const DetectOptions& options = {},
                           const Progress& progress = {});

class PsfField;

/// What stars show beyond the Moffat profile (coma, spikes, wings): their residuals, stacked at
/// half pixels (after Anderson & King 2000, PASP 112, 1360), each cell a polynomial of position.
class EffectivePsf {
 public:
  /// Rows of a `side_px` x `side_px` kernel to be added to the Moffat's, in shares of the flux,
  /// centred on pixel (side/2, side/2) plus (dx, dy). Zero beyond reach_px().
  [[nodiscard]] std::vector<float> residual(float x, float y, int channel, int side_px,
                                            float dx = 0, float dy = 0) const;
  [[nodiscard]] int reach_px() const { return reach_px_; }
  [[nodiscard]] int order() const { return order_; }  ///< of the polynomials, at most 2
  [[nodiscard]] int star_count() const { return star_count_; }

 private:
  friend std::shared_ptr<const EffectivePsf> measure_effective_psf(ConstView, const StarCatalogue&,
                                                                   const PsfField&, int);
  Size frame_;
  int reach_px_ = 0, side_ = 0, order_ = -1, star_count_ = 0;
  std::vector<std::vector<std::vector<float>>> channels_;  ///< channel, term, cell
};

/// From bright isolated unsaturated stars beside the Moffats of `field`, that of the catalogue; what
/// they say is weighed against a prior of no residual. Nothing when there are fewer than eight, or when left-out stars are predicted no better with it.
std::shared_ptr<const EffectivePsf> measure_effective_psf(ConstView frame,
                                                          const StarCatalogue& catalogue,
                                                          const PsfField& field, int threads = 0);

/// Light far from a star's centre that neither its Moffat nor the effective PSF holds: what is
/// scattered and diffracted there, and the local sky of a fit takes for sky. The same all over the
/// frame.
class PsfWings {
 public:
  /// Light per pixel in shares of the star's flux; may be negative where the others hold too much.
  [[nodiscard]] float at(int channel, float radius_px) const;

 private:
  friend std::shared_ptr<const PsfWings> measure_psf_wings(ConstView, const StarCatalogue&,
                                                           const EffectivePsf*, int);
  std::vector<std::vector<float>> channels_;  ///< channel, ring
};

/// From rings around bright isolated stars, the sky being read where they end. `effective` may be
/// null. Nothing when there are fewer than eight stars.
std::shared_ptr<const PsfWings> measure_psf_wings(ConstView frame, const StarCatalogue& catalogue,
                                                  const EffectivePsf* effective, int threads = 0);

/// A smooth robust model of the PSF over the frame: low-order polynomials of position in log FWHM,
/// e1, e2, beta and colour shift per channel.
class PsfField {
 public:
  /// The same PSF everywhere and in every channel.
  static PsfField constant(const Psf& psf, Size frame, int channels);
  [[nodiscard]] Psf at(float x, float y, int channel) const;
  /// Mean over the channels: FWHM geometric, shape averaged, no colour shift.
  [[nodiscard]] Psf mean_at(float x, float y) const;
  /// One-sigma relative uncertainty of the FWHM at this place.
  [[nodiscard]] float fwhm_uncertainty(float x, float y) const;
  [[nodiscard]] int channels() const { return static_cast<int>(channels_.size()); }
  [[nodiscard]] int order() const { return order_; }
  [[nodiscard]] int star_count() const { return star_count_; }
  /// The field of the frame binned by `factor`, or of the window that starts at (x, y).
  [[nodiscard]] PsfField binned(int factor) const;
  [[nodiscard]] PsfField shifted(float x, float y) const;

  /// From now on kernel() and residual() know what lies beyond the Moffat.
  void set_effective(std::shared_ptr<const EffectivePsf> effective) {
    effective_ = std::move(effective);
  }
  [[nodiscard]] const EffectivePsf* effective() const { return effective_.get(); }
  void set_wings(std::shared_ptr<const PsfWings> wings) { wings_ = std::move(wings); }
  /// What lies beyond the Moffat at this place, as EffectivePsf::residual; empty when nothing is
  /// known. Without the channel's colour shift if `centred`.
  [[nodiscard]] std::vector<float> residual(float x, float y, int channel, int side_px,
                                            bool centred = false) const;
  /// The same with the far wings: what a nebula is blurred with.
  [[nodiscard]] std::vector<float> residual_with_wings(float x, float y, int channel, int side_px,
                                                       bool centred = false) const {
    return with_wings(residual(x, y, channel, side_px, centred), x, y, channel, side_px, centred);
  }
  /// Of a residual that is known already.
  [[nodiscard]] std::vector<float> with_wings(std::vector<float> residual, float x, float y,
                                              int channel, int side_px, bool centred = false) const;
  /// The whole PSF, Moffat and residual: (1, side, side), sums to 1, centred as Psf::kernel.
  [[nodiscard]] Image kernel(float x, float y, int channel, int side_px) const;
  /// Where the light's centre of gravity lies, seen from the Moffat's centre, px: what coma does.
  /// Mean over the channels; (0, 0) when nothing is known.
  [[nodiscard]] std::pair<float, float> coma(float x, float y) const;

  /// Polynomial coefficients; terms 1, u, v, u^2, uv, v^2, ... of u, v in [-1, 1] over the frame.
  struct ChannelModel {
    std::vector<double> log_fwhm, e1, e2, log_beta, dx, dy;
  };
  /// `relative_error` is the part of the FWHM's uncertainty that is the same everywhere; the
  /// covariance of the polynomial of log FWHM (terms * terms, may be empty) adds the rest.
  PsfField(Size frame, int order, int star_count, std::vector<ChannelModel> channels,
           float relative_error, std::vector<double> covariance = {});

 private:
  /// What `draw` makes of a square of the frame's own pixels, its centre moved by (dx, dy), on the
  /// field's grid.
  [[nodiscard]] std::vector<float> beyond_moffat(
      const Psf& psf, int side_px, bool centred,
      const std::function<std::vector<float>(int side, float dx, float dy)>& draw) const;

  Size frame_;
  float origin_x_ = 0, origin_y_ = 0, scale_ = 1;
  int order_ = 0, star_count_ = 0;
  float relative_error_ = 0;
  std::vector<ChannelModel> channels_;
  std::vector<double> covariance_;
  std::shared_ptr<const EffectivePsf> effective_;
  std::shared_ptr<const PsfWings> wings_;
};

struct FieldOptions {
  int max_order = 3;
  int min_stars = 5;  ///< fewer, at least three, give a constant field when all of them agree
};

/// Nothing when too few stars could be fitted, or when those fitted do not share one profile: then
/// they are knots of nebulae or galaxies.
std::optional<PsfField> fit_psf_field(const StarCatalogue& catalogue,
                                      const FieldOptions& options = {});
/// The same with the effective PSF, from the frame that the catalogue comes from.
std::optional<PsfField> fit_psf_field(ConstView frame, const StarCatalogue& catalogue,
                                      int threads = 0);

/// Width of a round PSF, estimated without stars.
struct SpectralPsf {
  float fwhm_px = 0;
  float relative_error = 0;  ///< one sigma
};
/// From the power spectrum of a frame without measurable stars: the power of nebulae, galaxies and
/// planets falls as a power law of the frequency, the PSF bends it down. Nothing when no bend is
/// seen over the noise.
std::optional<SpectralPsf> estimate_psf_from_spectrum(ConstView frame, int threads = 0);

/// The typical star's light at a distance from its centre, 1 at the fitted peak.
struct RadialPoint {
  float radius_px = 0, light = 0;
  float scatter = 0;  ///< one sigma of the single pixels
};
/// Medians over rings half a pixel wide around up to 100 of the brightest fitted stars; empty when
/// none was fitted. `frame` is the one that the catalogue comes from.
std::vector<RadialPoint> measure_radial_profile(ConstView frame, const StarCatalogue& catalogue,
                                                int channel);

/// What `limpid measure` reports.
struct FrameReport {
  float fwhm_px_median = 0, ellipticity_median = 0, eccentricity_median = 0, beta_median = 0;
  std::vector<float> fwhm_px_per_channel;
  int stars_detected = 0, stars_used = 0, stars_saturated = 0;
  std::string sampling_verdict, sampling_reason;
  struct Cell {
    float x, y, fwhm_px, ellipticity, eccentricity, angle_rad, beta;
    float coma_x_px, coma_y_px;  ///< PsfField::coma
  };
  std::vector<Cell> field;  ///< grid of local values, row by row
  int field_columns = 0, field_rows = 0;
  float tilt = 0, off_axis = 0;  ///< relative FWHM change across the frame, and centre to corners
  std::string summary;           ///< one or two sentences
};
FrameReport report_stars(const StarCatalogue& catalogue, const std::optional<PsfField>& field);

/// PsfField::kernel at the places of `report.field`, side by side: (channels, rows * side, columns
/// * side). For other programs' deconvolution.
Image picture_psf_field(const PsfField& field, const FrameReport& report, int side_px);

}  // namespace limpid
