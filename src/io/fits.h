// The writing half of the FITS format.
#pragma once

#include "format.h"

namespace limpid::io {

void write_fits(OutputFile& file, const WriteJob& job);

}  // namespace limpid::io
