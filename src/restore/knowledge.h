// What is known of a frame before it is deconvolved.
#pragma once

#include <optional>

#include <limpid/deconvolve.h>
#include <limpid/image.h>
#include <limpid/network.h>
#include <limpid/progress.h>
#include <limpid/stars.h>

#include "restore/noise_model.h"
#include "restore/normalise.h"
#include "restore/psf_errors.h"

namespace limpid {

/// Stars under this width are single pixels: there is nothing to sharpen.
inline constexpr float narrowest_fwhm_px = 1.3F;
/// Over this one the frame is processed on a binned grid.
inline constexpr float widest_fwhm_px = 8.0F;

/// What the frame tells about itself, and what is assumed where it tells nothing.
struct Knowledge {
  StarCatalogue catalogue;
  std::optional<Normalisation> normalisation;  ///< there once measured
  std::optional<PsfField> field;
  PsfErrors errors;                     ///< of the field
  std::optional<SpectralPsf> spectral;  ///< looked for when there is neither field nor --psf
  bool spectrum_seen = false;
  Psf assumed;
  std::optional<NoiseModel> noise;  ///< there once asked for: noise_of()
};

Knowledge measure(ConstView frame, const DeconvolveOptions& o, const Progress& progress);
/// Of the frame that `known` is of; measured when it is first asked for.
const NoiseModel& noise_of(Knowledge& known, ConstView frame, int threads);
/// What the options and the power spectrum say where the stars say nothing. Throws Error(failed)
/// when nothing does.
void assume(Knowledge& known, ConstView frame, const DeconvolveOptions& o, DeconvolveReport& report,
            const Progress& progress);
/// Median over the frame.
float typical_fwhm(const Knowledge& known, Size size);
/// What the network is told of a place.
TileControls controls_at(const Knowledge& known, const DeconvolveOptions& o, int channels, float x,
                         float y);
/// The same without what the non-stellar PSF has beyond its Moffat, which takes as long again.
TileControls stellar_controls_at(const Knowledge& known, const DeconvolveOptions& o, int channels,
                                 float x, float y);
/// wanted_psfs() of these, at a fraction of the cost.
WantedPsfs wanted_at(const Knowledge& known, const DeconvolveOptions& o, int channels, float x,
                     float y);
/// What the report says of the frame.
void describe(DeconvolveReport& report, const Knowledge& known, ConstView frame,
              const DeconvolveOptions& o);

}  // namespace limpid
