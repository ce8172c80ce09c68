#include "xisf_codecs.h"

#include <lz4.h>
#include <zlib.h>
#include <zstd.h>

#include <limpid/error.h>

namespace limpid::io {
namespace {

/// The bytes as a matrix of that many rows, turned so that its columns follow each other; what is
/// left over stays behind.
std::vector<std::byte> transposed(std::span<const std::byte> bytes, std::size_t rows,
                                  std::size_t columns) {
  std::vector<std::byte> out(bytes.begin(), bytes.end());
  for (std::size_t column = 0; column < columns; ++column) {
    for (std::size_t row = 0; row < rows; ++row) {
      out[column * rows + row] = bytes[row * columns + column];
    }
  }
  return out;
}

}  // namespace

std::uint64_t most_per_byte(const std::string& codec) {
  if (codec == "zlib") return 1032;
  if (codec == "zstd") return 32768;
  return 255;
}

bool unpack(const std::string& codec, std::span<const std::byte> packed,
            std::span<std::byte> unpacked) {
  if (codec == "zlib") {
    uLongf length = unpacked.size();
    return uncompress(reinterpret_cast<Bytef*>(unpacked.data()), &length,
                      reinterpret_cast<const Bytef*>(packed.data()), packed.size()) == Z_OK &&
           length == unpacked.size();
  }
  if (codec == "zstd") {
    return ZSTD_decompress(unpacked.data(), unpacked.size(), packed.data(), packed.size()) ==
           unpacked.size();
  }
  if (packed.size() > LZ4_MAX_INPUT_SIZE || unpacked.size() > LZ4_MAX_INPUT_SIZE) return false;
  return LZ4_decompress_safe(reinterpret_cast<const char*>(packed.data()),
                             reinterpret_cast<char*>(unpacked.data()),
                             static_cast<int>(packed.size()), static_cast<int>(unpacked.size())) ==
         static_cast<int>(unpacked.size());
}

void pack(Compression compression, std::span<const std::byte> bytes, std::vector<std::byte>& out) {
  const std::size_t start = out.size();
  std::size_t length = 0;
  if (compression == Compression::zlib) {
    uLongf room = compressBound(bytes.size());
    out.resize(start + room);
    compress(reinterpret_cast<Bytef*>(out.data() + start), &room,
             reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
    length = room;
  } else if (compression == Compression::zstd) {
    const std::size_t room = ZSTD_compressBound(bytes.size());
    out.resize(start + room);
    length = ZSTD_compress(out.data() + start, room, bytes.data(), bytes.size(), 3);
    if (ZSTD_isError(length) != 0) {
      throw Error(ErrorKind::exhausted, std::string("zstd: ") + ZSTD_getErrorName(length));
    }
  } else {
    const int room = LZ4_compressBound(static_cast<int>(bytes.size()));
    out.resize(start + static_cast<std::size_t>(room));
    length = static_cast<std::size_t>(LZ4_compress_default(
        reinterpret_cast<const char*>(bytes.data()), reinterpret_cast<char*>(out.data() + start),
        static_cast<int>(bytes.size()), room));
  }
  out.resize(start + length);
}

std::vector<std::byte> shuffle(std::span<const std::byte> bytes, std::size_t item_bytes) {
  return transposed(bytes, bytes.size() / item_bytes, item_bytes);
}

std::vector<std::byte> unshuffle(std::span<const std::byte> bytes, std::size_t item_bytes) {
  return transposed(bytes, item_bytes, bytes.size() / item_bytes);
}

}  // namespace limpid::io
