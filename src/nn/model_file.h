// A network's weights and description in one safetensors file.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "nn/architecture.h"

namespace limpid {

struct ModelDescription {
  std::string name, architecture;
  ArchitectureOptions shape;
  std::int64_t steps = 0, patches = 0;
  std::string config, corpus_hash, validation_table;
};

/// Weights go to disk as float16. Throws Error(cannot_write).
void save_model(const std::filesystem::path& path,
                const std::map<std::string, torch::Tensor>& weights, const ModelDescription& about);
struct Model {
  std::shared_ptr<Architecture> network;
  NetworkInfo info;
};
/// Throws Error(bad_model).
Model load_model(const std::filesystem::path& path);
NetworkInfo model_info(const std::filesystem::path& path,
                       const std::map<std::string, std::string>& metadata);

/// Channels and blocks, as the file says.
ArchitectureOptions shape_of(const NetworkInfo& info);

/// Sets every parameter from the tensor `prefix + name`. Throws Error(bad_model) when one is
/// missing or of another shape.
void load_parameters(Architecture& network, const std::map<std::string, torch::Tensor>& tensors,
                     const std::string& prefix, const std::filesystem::path& path);
/// Gives `tensors` of a network with fewer residual blocks those that it lacks, with the second
/// convolution at zero: the block returns what comes in.
void add_missing_blocks(Architecture& network, std::map<std::string, torch::Tensor>& tensors);
/// Gives `tensors` of a network that knows one guide plane less zero weights for the newest: it
/// takes nothing of that plane, and answers as before.
void add_missing_plane(std::map<std::string, torch::Tensor>& tensors);

/// 64-bit FNV-1a (Fowler, Noll, Vo) in hexadecimal, enough to tell two texts apart.
std::string hash_text(const std::string& text);

}  // namespace limpid
