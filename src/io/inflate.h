// Unpacking of gzip files and streams.
#pragma once

#include <optional>

#include "files.h"

namespace limpid::io {

/// Memory grows with the bytes that really come out, which deflate bounds to 1032 for one. Throws
/// Error(bad_input).
std::vector<std::byte> gunzip(const InputFile& file);
/// How many bytes a gzip stream unpacks to; nothing when it is damaged or ends early.
std::optional<std::uint64_t> gunzipped_size(std::span<const std::byte> packed);

}  // namespace limpid::io
