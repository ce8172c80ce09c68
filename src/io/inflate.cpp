#include "inflate.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <memory>

#include <limpid/error.h>

namespace limpid::io {
namespace {

using Stream = std::unique_ptr<z_stream, int (*)(z_streamp)>;

/// Holds `stream` ready to unpack gzip data.
Stream ready(z_stream& stream) {
  constexpr int gzip_window = 15 + 16;
  if (inflateInit2(&stream, gzip_window) != Z_OK) {
    throw Error(ErrorKind::exhausted, "no memory to unpack gzip data");
  }
  return {&stream, inflateEnd};
}

}  // namespace

std::vector<std::byte> gunzip(const InputFile& file) {
  z_stream stream{};
  const Stream owner = ready(stream);
  std::vector<std::byte> unpacked;
  std::vector<std::byte> input(std::size_t{1} << 18), output(std::size_t{1} << 20);
  std::uint64_t position = 0;
  int status = Z_OK;
  do {
    const auto count = std::min<std::uint64_t>(input.size(), file.size() - position);
    file.read_at(position, std::span(input).first(static_cast<std::size_t>(count)));
    position += count;
    stream.next_in = reinterpret_cast<Bytef*>(input.data());
    stream.avail_in = static_cast<uInt>(count);
    do {
      stream.next_out = reinterpret_cast<Bytef*>(output.data());
      stream.avail_out = static_cast<uInt>(output.size());
      status = inflate(&stream, Z_NO_FLUSH);
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
        throw Error(ErrorKind::bad_input, shown(file.path()) + ": damaged gzip data");
      }
      unpacked.insert(unpacked.end(), output.begin(),
                      output.end() - static_cast<std::ptrdiff_t>(stream.avail_out));
    } while (status != Z_STREAM_END && stream.avail_out == 0);
    if (status != Z_STREAM_END && position == file.size()) {
      throw Error(ErrorKind::bad_input, shown(file.path()) + ": the file is cut short");
    }
  } while (status != Z_STREAM_END);
  return unpacked;
}

std::optional<std::uint64_t> gunzipped_size(std::span<const std::byte> packed) {
  z_stream stream{};
  const Stream owner = ready(stream);
  std::array<Bytef, 16384> scratch;
  // zlib only reads from it, whatever its type says.
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::uint64_t size = 0;
  int status = Z_OK;
  while (status == Z_OK) {
    stream.next_out = scratch.data();
    stream.avail_out = static_cast<uInt>(scratch.size());
    status = inflate(&stream, Z_NO_FLUSH);
    size += scratch.size() - stream.avail_out;
  }
  if (status != Z_STREAM_END) return std::nullopt;
  return size;
}

}  // namespace limpid::io
