#include "nn/model_file.h"

#include <array>
#include <cstdio>
#include <sstream>

#include <limpid/error.h>

#include "core/fnv.h"
#include "nn/weights.h"

namespace limpid {
namespace {

std::string join(const std::vector<int>& values) {
  std::string text;
  for (const int value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
  return text;
}

std::vector<int> split(const std::string& text) {
  std::vector<int> values;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    values.push_back(part.size() <= 6 &&
                             part.find_first_not_of("0123456789") == std::string::npos &&
                             !part.empty()
                         ? std::stoi(part)
                         : -1);
  }
  return values;
}

std::int64_t whole(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const auto entry = metadata.find(key);
  if (entry == metadata.end() || entry->second.empty() || entry->second.size() > 15 ||
      entry->second.find_first_not_of("0123456789") != std::string::npos)
    return 0;
  return std::stoll(entry->second);
}

std::string text(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const auto entry = metadata.find(key);
  return entry == metadata.end() ? "" : entry->second;
}

}  // namespace

std::string hash_text(const std::string& text) {
  Fnv hash;
  for (const char c : text) hash.add(static_cast<unsigned char>(c));
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx",
                static_cast<unsigned long long>(hash.value()));
  return digits.data();
}

void save_model(const std::filesystem::path& path,
                const std::map<std::string, torch::Tensor>& weights,
                const ModelDescription& about) {
  TensorFile file;
  for (const auto& [name, tensor] : weights) file.tensors[name] = tensor.detach().to(torch::kHalf);
  file.metadata = {{"format", "limpid network 1"},
                   {"name", about.name},
                   {"architecture", about.architecture},
                   {"widths", join(about.shape.widths)},
                   {"blocks", join(about.shape.blocks)},
                   {"steps", std::to_string(about.steps)},
                   {"patches", std::to_string(about.patches)},
                   {"config", about.config},
                   {"config_hash", hash_text(about.config)},
                   {"corpus_hash", about.corpus_hash},
                   {"validation_table", about.validation_table}};
  write_safetensors(path, file);
}

NetworkInfo model_info(const std::filesystem::path& path,
                       const std::map<std::string, std::string>& metadata) {
  if (text(metadata, "format") != "limpid network 1") {
    throw Error(ErrorKind::bad_model,
                path.string() + ": not a limpid network; 'limpid models' lists those installed");
  }
  NetworkInfo info;
  info.name = text(metadata, "name");
  info.architecture = text(metadata, "architecture");
  info.steps = whole(metadata, "steps");
  info.patches = whole(metadata, "patches");
  info.config_hash = text(metadata, "config_hash");
  info.corpus_hash = text(metadata, "corpus_hash");
  info.validation_table = text(metadata, "validation_table");
  info.metadata = metadata;
  return info;
}

ArchitectureOptions shape_of(const NetworkInfo& info) {
  return {split(text(info.metadata, "widths")), split(text(info.metadata, "blocks"))};
}

Model load_model(const std::filesystem::path& path) {
  TensorFile file = read_safetensors(path);
  add_missing_plane(file.tensors);
  Model model;
  model.info = model_info(path, file.metadata);
  model.network = build_architecture(model.info.architecture, shape_of(model.info));
  load_parameters(*model.network, file.tensors, "", path);
  model.network->eval();
  for (const auto& parameter : model.network->parameters())
    model.info.parameters += parameter.numel();
  return model;
}

void add_missing_blocks(Architecture& network, std::map<std::string, torch::Tensor>& tensors) {
  const torch::NoGradGuard no_grad;
  for (const auto& item : network.named_parameters()) {
    const std::string& name = item.key();
    const bool first = name.find(".first.") != std::string::npos,
               second = name.find(".second.") != std::string::npos;
    if (first) tensors.emplace(name, item.value().detach().clone());
    if (second) tensors.emplace(name, torch::zeros_like(item.value()));
  }
}

void add_missing_plane(std::map<std::string, torch::Tensor>& tensors) {
  constexpr std::int64_t plane = 3 * block_area;  // of all colours
  const auto insert = [&](const std::string& name, std::int64_t dimension, std::int64_t complete,
                          std::int64_t at) {
    const auto entry = tensors.find(name);
    if (entry == tensors.end() || entry->second.dim() <= dimension) return;
    torch::Tensor& weights = entry->second;
    if (weights.size(dimension) != complete - plane) return;
    auto shape = weights.sizes().vec();
    shape[static_cast<std::size_t>(dimension)] = plane;
    const auto rest = complete - plane - at;
    weights = torch::cat({weights.narrow(dimension, 0, at), torch::zeros(shape, weights.options()),
                          weights.narrow(dimension, at, rest)},
                         dimension);
  };
  // the network sees the tile first, and answers with a share of each guide plane, then the rest
  insert("stem.weight", 1, plane_count * block_area, (1 + newest_guide) * plane);
  insert("head.weight", 0, (guide_count + 1) * plane, newest_guide * plane);
  insert("head.bias", 0, (guide_count + 1) * plane, newest_guide * plane);
}

void load_parameters(Architecture& network, const std::map<std::string, torch::Tensor>& tensors,
                     const std::string& prefix, const std::filesystem::path& path) {
  const torch::NoGradGuard no_grad;
  for (auto& item : network.named_parameters()) {
    const auto entry = tensors.find(prefix + item.key());
    if (entry == tensors.end() || entry->second.sizes() != item.value().sizes()) {
      throw Error(ErrorKind::bad_model,
                  path.string() + ": the weight '" + item.key() +
                      "' is missing or of another shape than its description says");
    }
    if (!entry->second.to(torch::kFloat).isfinite().all().item<bool>()) {
      throw Error(ErrorKind::bad_model,
                  path.string() + ": the weight '" + item.key() + "' is not finite");
    }
    item.value().copy_(entry->second);
  }
}

}  // namespace limpid
