// What is no nebula.
#pragma once

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// (1, h, w), 1 where what a part of a frame shows is not to be treated as a nebula: the discs of
/// detected stars, clipped pixels and their surroundings, and whatever narrow stands high over its
/// surroundings, whether it was found to be a star or not. `place`: of the part in the frame.
Image lights_to_hide(ConstView part, Rect place, const StarCatalogue& catalogue, float fwhm_px);

/// 1 within `reach` px (along rows and columns) of what is not 0, 0 elsewhere.
Image near_flags(const Image& flags, int reach);
/// 1 that near to a pixel of the part that is clipped in any channel.
Image near_clipped(ConstView part, const StarCatalogue& catalogue, float reach_px);
/// 1 where either is.
void add_flags(Image& to, const Image& flags);

}  // namespace limpid
