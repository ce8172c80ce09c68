// Feeds any bytes to the reader of weights files: they are read or refused, and what is read lies
// inside the file.
#include <cstdlib>

#include <limpid/error.h>

#include "memory_file.h"
#include "nn/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const MemoryFile file;
  file.hold(data, size);
  try {
    std::uint64_t claimed = 0;
    for (const auto& [name, place] : limpid::read_safetensors_header(file.path()).tensors) {
      if (place.position + place.bytes > size) std::abort();
      claimed += place.bytes;
    }
    if (claimed > size) std::abort();
  } catch (const limpid::Error& error) {
    if (error.kind() != limpid::ErrorKind::bad_model) std::abort();
  }
  return 0;
}
