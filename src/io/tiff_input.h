// How libtiff reads a file of ours: by its own calls, bounded, and without a word.
#pragma once

#include <cstdint>
#include <string>

#include "tiff.h"

namespace limpid::io {

/// libtiff's view of an InputFile, with its messages kept instead of printed.
struct TiffInput {
  const InputFile* file;
  std::uint64_t position = 0;
  std::string message;
};

/// The densest packing that libtiff reads (deflate, 1032; Zstandard more, but in blocks) never
/// needs a strip or tile larger than this for the bytes that are there.
inline constexpr std::uint64_t most_per_byte = 32768;
/// Both must outlive the handle, which is empty when the file is no TIFF that libtiff can open.
TiffHandle open_tiff(const InputFile& file, TiffInput& input);

}  // namespace limpid::io
