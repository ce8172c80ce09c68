// Feeds any bytes to the reader of one format, LIMPID_FUZZ_FORMAT: they are read or refused.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include <limpid/error.h>
#include <limpid/io.h>

#include "io/format.h"

namespace {

limpid::io::Format format() {
  const std::string name = LIMPID_FUZZ_FORMAT;
  if (name == "fits") return limpid::io::fits_format();
  if (name == "xisf") return limpid::io::xisf_format();
  if (name == "tiff") return limpid::io::tiff_format();
  if (name == "png") return limpid::io::png_format();
  return limpid::io::jpeg_format();
}

/// A file in memory, since readers take paths.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {}
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  void hold(const std::uint8_t* data, std::size_t size) const {
    if (::ftruncate(descriptor_, 0) != 0 ||
        ::pwrite(descriptor_, data, size, 0) != static_cast<ssize_t>(size)) {
      std::abort();
    }
  }
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const limpid::io::Format reader = format();
  static const MemoryFile file;
  if (!reader.recognises({reinterpret_cast<const std::byte*>(data), size < 4096 ? size : 4096})) {
    return -1;  // not worth keeping
  }
  file.hold(data, size);
  try {
    limpid::TileReader tiles(file.path());
    const limpid::Size whole = tiles.info().size;
    tiles.read({whole.width / 2, whole.height / 2, 1, 1});
    // Large frames are slow, and their rows all go the same way.
    if (whole.pixels() < 1000000) limpid::read_frame(file.path());
  } catch (const limpid::Error& error) {
    if (error.kind() != limpid::ErrorKind::bad_input) std::abort();
  }
  return 0;
}
