#include "nn/model_file.h"

#include "nn/parameters.h"
#include "nn/tensors.h"
#include "nn/weights.h"

namespace limpid {
namespace {

std::string join(const std::vector<int>& values) {
  std::string text;
  for (const int value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
  return text;
}

}  // namespace

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

Model load_model(const NetworkFile& file) {
  Model model;
  model.info = file.info;
  model.network = build_architecture(model.info.architecture, shape_of(model.info));
  load_parameters(*model.network, to_tensors(file.parameters), "", file.path);
  model.network->eval();
  return model;
}

Model load_model(const std::filesystem::path& path) { return load_model(read_network(path)); }

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
    const bool of_its_shape =
        entry != tensors.end() && entry->second.sizes() == item.value().sizes();
    check_weight(path, item.key(), of_its_shape,
                 of_its_shape && entry->second.to(torch::kFloat).isfinite().all().item<bool>());
    item.value().copy_(entry->second);
  }
}

}  // namespace limpid
