// A network's weights and description in one safetensors file, for LibTorch.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "nn/architecture.h"
#include "nn/model_info.h"

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
Model load_model(const NetworkFile& file);
Model load_model(const std::filesystem::path& path);

/// Sets every parameter from the tensor `prefix + name`. Throws Error(bad_model) when one is
/// missing or of another shape.
void load_parameters(Architecture& network, const std::map<std::string, torch::Tensor>& tensors,
                     const std::string& prefix, const std::filesystem::path& path);
/// Gives `tensors` of a network with fewer residual blocks those that it lacks, with the second
/// convolution at zero: the block returns what comes in.
void add_missing_blocks(Architecture& network, std::map<std::string, torch::Tensor>& tensors);

}  // namespace limpid
