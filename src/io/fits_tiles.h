// The packed tiles of a FITS image, checked before CFITSIO unpacks them.
#pragma once

#include <fitsio.h>

#include "files.h"

namespace limpid::io {

/// CFITSIO 4.2 believes what packed tiles say: a gzip stream that ends early makes it take memory
/// for ever, Rice codes are followed beyond the end of their tile, PLIO and HCOMPRESS tiles name
/// their own size. This compares places with the file, unpacks every gzip stream once into nothing,
/// follows every Rice code, and compares the sizes. The HDU of
/// the image is the current one; its data start at byte `data_start`. Throws Error(bad_input).
void require_sound_tiles(fitsfile* fits, const InputFile& file, std::uint64_t data_start);

}  // namespace limpid::io
