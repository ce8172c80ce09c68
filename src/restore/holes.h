// Bright stars that the network does not understand stay as they were.
#pragma once

#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// Where the recorded light stands 20 sigma over the sky and the result 6 sigma under it, the
/// result is wrong: no restoration of light that is nowhere negative makes a hole in it. The star
/// there, all connected light over 20 sigma within twelve FWHM, is put back as it was recorded, in
/// all channels, over a soft edge of four pixels. `before` and `after` have the same size, `sky`
/// has one level per channel. Returns how many places were put back.
int put_back_holes(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                   double fwhm_px);

}  // namespace limpid
