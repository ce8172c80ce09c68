// The single-frame pipeline: measure, normalise, tile, network, blend.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <limpid/image.h>
#include <limpid/network.h>
#include <limpid/progress.h>
#include <limpid/stars.h>
#include <limpid/trust.h>

namespace limpid {

struct DeconvolveOptions {
  float sharpen_stars = 0.25F;  ///< 0..0.7: star FWHM becomes (1 - S) times its local width
  float adjust_halos = 0.0F;    ///< -0.5..0.5: Moffat beta of the stars times 2^(-1.5 A)
  std::optional<float> psf_fwhm_px =
      {};                           ///< 0.5..8: a round PSF for the non-stellar part; else measured
  float sharpen_nonstellar = 0.9F;  ///< 0..1: non-stellar FWHM becomes (1 - N) times the PSF's
  bool correct_only = false;        ///< round and equal in all channels, nothing sharpened
  bool correct_first = false;
  bool nonstellar_then_stellar = false;
  bool luminance_only = false;      ///< HSI intensity alone
  bool no_stars = false;            ///< Moon, planets, starless frames
  ConstView mask = {};              ///< (1, height, width), 0..1: where the result is blended in
  std::optional<Rect> region = {};  ///< only this part is processed and returned
  int tile_px = 512;                ///< at least 256
  float overlap = 0.2F;             ///< 0..0.5, share of a tile
  int threads = 0;
  /// 0..0.7: asked of the network for the stars as it is, for quick previews; else what makes stars
  /// as narrow as asked is found by trials on windows of the frame.
  std::optional<float> request_stars = {};
  bool check = true;  ///< measure the stars of the result and fill `trust`
  /// A result of this frame made elsewhere, by whatever program: nothing is restored, it is judged.
  ConstView judged = {};
  bool reblur = false;  ///< fill `reblurring` and `trust_map`; not of regions, binned frames, masks
  bool trust_map = true;  ///< if not, only `reblurring` is filled: as a whole the map is large
};

/// Sharpening moves a star's light and adds none: what was put in or taken out so that it holds.
struct BalancedLight {
  int stars = 0;
  /// Of the light given to a star, as a share of what it has; scatter: half the width of the
  /// central 68 %.
  double median = 0, scatter = 0;
};

struct DeconvolveReport {
  std::string model, device;
  double fwhm_px = 0, ellipticity = 0;  ///< of the frame, median over its field
  int stars_used = 0, field_order = 0;
  bool psf_measured = false;
  double fwhm_asked_px = 0, nonstellar_fwhm_asked_px = 0;
  /// Of the network, so that stars get the width asked for; of the last pass.
  double sharpen_stars_requested = 0;
  int tiles = 0, tile_px = 0, binned_by = 1;
  double seconds = 0, network_seconds = 0, megapixels_per_s = 0;
  std::size_t pixels_without_data = 0;
  BalancedLight light;           ///< of the last pass
  double nebulae_corrected = 0;  ///< share of the pixels, by over half the noise, in agreement
  int stars_corrected = 0;       ///< brought into agreement with the record; of the last pass
  int clipped_stars_shrunk = 0;
  double clipped_areas_kept = 0;  ///< share of the frame that stays as it is for that
  int halos_kept = 0;             ///< of bright stars, beyond their cores
  int stars_put_back = 0;         ///< wholly or partly: the network made holes there
  std::vector<std::string> notes;
  std::optional<TrustReport> trust;
  std::optional<ReblurReport> reblurring;
};

struct Deconvolved {
  Image image;  ///< like the input, or of the region's size
  Image
      trust_map;  ///< re-blurred result minus input, in units of the noise; empty if not asked for
  DeconvolveReport report;
};

/// `frame`: 1 or 3 channels, linear. NaN, and zero or full-scale borders, come back as they were.
/// `fallback`, if given, makes the network to go on with when the device is lost (the CPU's).
/// Throws Error(failed) when the PSF can neither be measured nor is given, Error(usage) for options
/// out of range, Error(exhausted) when even the smallest tile does not fit.
Deconvolved deconvolve(ConstView frame, const Network& network,
                       const DeconvolveOptions& options = {}, const Progress& progress = {},
                       const std::function<Network()>& fallback = {});

/// What deconvolve() does with nebulae after the network: where `result`, blurred back to the
/// measured PSF, differs from `frame` by more than noise, what is missing is given to it. One PSF
/// all over; `known` tells sky, noise, clipping and where stars are. Shapes are equal.
void agree_with_record(ConstView frame, const StarCatalogue& known, const TileControls& controls,
                       MutableView result, int threads = 0);

/// deconvolve() for a frame that is deconvolved again and again, as a preview is while its controls
/// move: gaps, stars, PSF field and the result of an earlier pass are kept for as long as the
/// options that they depend on stay. The pixels must outlive it. One call at a time.
class Deconvolver {
 public:
  explicit Deconvolver(ConstView frame);
  Deconvolver(Deconvolver&&) noexcept;
  Deconvolver& operator=(Deconvolver&&) noexcept;
  ~Deconvolver();
  /// As deconvolve() does, with the same bytes.
  Deconvolved run(const Network& network, const DeconvolveOptions& options = {},
                  const Progress& progress = {}, const std::function<Network()>& fallback = {});

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

}  // namespace limpid
