// The skeleton of a FITS file, checked before any library looks at it.
#pragma once

#include "files.h"

namespace limpid::io {

/// How many HDUs from the first on have the keywords that say where the next one starts, with
/// values that make sense; CFITSIO takes memory by them without a look. Throws Error(bad_input)
/// when not even the first one does.
int count_sound_hdus(const InputFile& file);

}  // namespace limpid::io
