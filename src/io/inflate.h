// Unpacking of whole gzip files.
#pragma once

#include "files.h"

namespace limpid::io {

/// Memory grows with the bytes that really come out, which deflate bounds to 1032 for one. Throws
/// Error(bad_input).
std::vector<std::byte> gunzip(const InputFile& file);

}  // namespace limpid::io
