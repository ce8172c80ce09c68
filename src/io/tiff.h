// What the two halves of the TIFF format share.
#pragma once

#include <tiffio.h>

#include <memory>

#include "format.h"

namespace limpid::io {

using TiffHandle = std::unique_ptr<TIFF, void (*)(TIFF*)>;

void write_tiff(OutputFile& file, const WriteJob& job);

}  // namespace limpid::io
