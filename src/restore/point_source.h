// Stars that are points: told from galaxies and pairs, and drawn as such.
#pragma once

#include <limpid/image.h>

#include "restore/psf_errors.h"
#include "restore/star_stamp.h"

namespace limpid {

/// What of a star's own terms is an error of the measured PSF, not its shape, and how surely it is
/// a point. As long as one differs from the PSF no more than the frame's stars do, it is, but for
/// what noise explains; the more it differs, the more it is a galaxy or a pair.
struct PointSource {
  float likely = 0;
  Terms error_of_psf{};
};
/// `s`: sigma of the measured PSF, px; `placed`: a fit has told the star's place.
PointSource as_point(const Explanation& e, const PsfErrors& errors, double s, bool placed);

/// What a point source shows about a star's place.
struct Point {
  double light = 0;
  double likely = 0;   ///< that it is one
  double scatter = 0;  ///< of what else is there
};

/// Puts the point, as the wanted PSF shows it (`drawn`), in place of the result (with its change)
/// where it outshines what else is there, and where the result is darker than that allows.
void draw_point(const Stamp& stamp, int channel, ConstView drawn, ConstView recorded_psf,
                const Point& point, MutableView change);

}  // namespace limpid
