// How well the measured PSF describes the stars of its frame.
#pragma once

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// How far stars differ from the measured PSF of their place, one sigma. At least what few stars
/// tell it to (SPEC 3.4).
struct PsfErrors {
  double width = 0.03;  ///< relative
  double ellipticity = 0.015;
  /// Width by fits that describe the cores, as those of the report do, over the field's. Where a
  /// PSF is no Moffat, fits weighted by noise are drawn out by its wings.
  double core_width = 1;
};

PsfErrors measure_psf_errors(ConstView frame, const StarCatalogue& catalogue, const PsfField& field,
                             int threads);

}  // namespace limpid
