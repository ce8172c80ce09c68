// The header of a safetensors file: what tensors it holds and where they lie.
// https://huggingface.co/docs/safetensors: 8 bytes of header length, a JSON header, the data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

namespace limpid {

struct TensorPlace {
  std::string type;  ///< "F32", "BF16", ...
  std::vector<std::int64_t> shape;
  std::uint64_t position = 0, bytes = 0;  ///< in the file
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::map<std::string, TensorPlace> tensors;
};

/// Every place lies inside the file, is as long as its shape says, and all places together are no
/// longer than the file. Throws Error(bad_model): truncated, overlapping, oversized or nonsense
/// files.
SafetensorsHeader read_safetensors_header(const std::filesystem::path& path);

/// The bytes of one tensor. `stream`: the file that is open. Throws Error(bad_model) where it has
/// become shorter than its header says.
void read_tensor(std::istream& stream, const std::filesystem::path& path, const TensorPlace& place,
                 void* to);

/// Bytes of one element; zero for a type that limpid does not know.
std::uint64_t safetensors_element_bytes(const std::string& type);

}  // namespace limpid
