// Bright stars that the network does not understand stay as they were.
#pragma once

#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// Beside a star of 500 sigma, light that was recorded 10 sigma over the darkest place within five
/// FWHM and comes out 6 sigma under it, or 3 in the mean of nine pixels, is wrong: a star that
/// becomes narrower uncovers what lies round it and makes no hole. The star, all connected light 10
/// sigma over that darkest place and within twelve FWHM, is put back as it was recorded, in all
/// channels, over a soft edge of four pixels. `before` and `after` have the same size, `sky` has
/// one level per channel. Returns how many places were put back.
int put_back_holes(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                   double fwhm_px, int threads = 0);

}  // namespace limpid
