// Bright stars that the network does not understand stay as they were.
#pragma once

#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// A star that becomes narrower uncovers what lies round it and makes nothing darker. So beside a
/// star of 500 sigma, light that was recorded 10 sigma over the darkest place within five FWHM and
/// comes out under it is raised to 1.5 sigma over that place. `before` and `after` have the same
/// size, `sky` has one level per channel.
void fill_rings(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                double fwhm_px, int threads = 0);

/// What comes out there too dark by 6 sigma and 1 % of the peak, or in the mean of nine pixels by 3
/// sigma and 0.5 %, is a star that was not understood. All connected light 10 sigma over the
/// darkest place and within twelve FWHM is put back as it was recorded, in all channels, over a
/// soft edge of four pixels. Where a star of under 5000 sigma has a ring only, none in its core, it
/// is mixed with the record no further than needed. Returns how many places were put back or mixed.
int put_back_holes(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                   double fwhm_px, int threads = 0);

/// put_back_holes, then fill_rings, on levels that are found once. Returns the places put back.
int mend_darkness(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                  double fwhm_px, int threads = 0);

}  // namespace limpid
