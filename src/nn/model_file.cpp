#include "nn/model_file.h"

#include <array>
#include <cstdio>
#include <sstream>

#include <limpid/error.h>

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
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(hash));
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

Model load_model(const std::filesystem::path& path) {
  const TensorFile file = read_safetensors(path);
  Model model;
  model.info = model_info(path, file.metadata);
  const ArchitectureOptions shape{split(text(file.metadata, "widths")),
                                  split(text(file.metadata, "blocks"))};
  model.network = build_architecture(model.info.architecture, shape);
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
