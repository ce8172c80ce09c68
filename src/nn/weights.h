// Weights files: safetensors, read with distrust.
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <string>

namespace limpid {

struct TensorFile {
  std::map<std::string, torch::Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// https://huggingface.co/docs/safetensors: 8 bytes of header length, a JSON header, the data.
/// Throws Error(bad_model): truncated, overlapping, oversized or nonsense files.
TensorFile read_safetensors(const std::filesystem::path& path);
/// Written beside the target and renamed. Throws Error(cannot_write).
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

}  // namespace limpid
