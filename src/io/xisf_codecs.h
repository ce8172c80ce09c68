// The packings of XISF blocks, and the shuffling of bytes that goes before them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <limpid/io.h>

namespace limpid::io {

/// Bytes that one packed byte can become at most: deflate's longest match for two bits, LZ4's run
/// of 255 for each length byte, Zstandard's 128 KiB block of one repeated byte in four bytes.
std::uint64_t most_per_byte(const std::string& codec);
/// False when the packed bytes do not become exactly that many. "zlib", "zstd", "lz4" or "lz4hc".
bool unpack(const std::string& codec, std::span<const std::byte> packed,
            std::span<std::byte> unpacked);
/// Appends the packed bytes; level 3 of Zstandard and the defaults of the others.
void pack(Compression compression, std::span<const std::byte> bytes, std::vector<std::byte>& out);

/// Byte j of every item, then byte j + 1 of every item, and so on.
std::vector<std::byte> shuffle(std::span<const std::byte> bytes, std::size_t item_bytes);
std::vector<std::byte> unshuffle(std::span<const std::byte> bytes, std::size_t item_bytes);

}  // namespace limpid::io
