// Feeds any bytes to the reader of one format, LIMPID_FUZZ_FORMAT: they are read or refused.
#include <cstdlib>
#include <string>

#include <limpid/error.h>
#include <limpid/io.h>

#include "io/format.h"
#include "memory_file.h"

namespace {

limpid::io::Format format() {
  const std::string name = LIMPID_FUZZ_FORMAT;
  if (name == "fits") return limpid::io::fits_format();
  if (name == "xisf") return limpid::io::xisf_format();
  if (name == "tiff") return limpid::io::tiff_format();
  if (name == "png") return limpid::io::png_format();
  return limpid::io::jpeg_format();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const limpid::io::Format reader = format();
  static const MemoryFile file;
  if (!reader.recognises({reinterpret_cast<const std::byte*>(data), size < 4096 ? size : 4096})) {
    return -1;  // not worth keeping
  }
  file.hold(data, size);
  try {
    const auto source = reader.open(file.path(), 0);
    const limpid::Size whole = source->info().size;
    // Large frames are slow, and their rows all go the same way.
    const limpid::Rect part = whole.pixels() < 10000
                                  ? limpid::Rect{0, 0, whole.width, whole.height}
                                  : limpid::Rect{whole.width / 2, whole.height / 2, 1, 1};
    limpid::Image pixels(source->info().channels, part.size());
    source->read(part, pixels.view());
  } catch (const limpid::Error& error) {
    if (error.kind() != limpid::ErrorKind::bad_input) std::abort();
  }
  return 0;
}
