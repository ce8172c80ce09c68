// limpid_mean_weights A.safetensors B.safetensors SHARE OUT.safetensors: the mean of two networks'
// weights, SHARE (0 to 1) of it B's, with B's description. Means along a run often judge better
// than either end (Izmailov et al. 2018, arXiv:1803.05407).
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <string>

#include "nn/model_file.h"

int main(int argc, char** argv) {
  using namespace limpid;
  if (argc != 5) {
    std::fprintf(stderr,
                 "usage: limpid_mean_weights A.safetensors B.safetensors SHARE OUT.safetensors\n");
    return 2;
  }
  try {
    const torch::NoGradGuard no_grad;
    const Model a = load_model(argv[1]), b = load_model(argv[2]);
    const double share = std::stod(argv[3]);
    if (!(share >= 0 && share <= 1) || std::filesystem::exists(argv[4])) {
      std::fprintf(
          stderr,
          "limpid_mean_weights: SHARE must lie between 0 and 1, and %s must not be there yet\n",
          argv[4]);
      return 2;
    }
    const auto first = a.network->named_parameters();
    std::map<std::string, torch::Tensor> weights;
    for (const auto& item : b.network->named_parameters())
      weights[item.key()] = (1 - share) * first[item.key()] + share * item.value();
    ModelDescription about;
    about.name = b.info.name;
    about.architecture = b.info.architecture;
    about.shape = shape_of(b.info);
    about.steps = b.info.steps;
    about.patches = b.info.patches;
    about.config = b.info.metadata.at("config");
    about.corpus_hash = b.info.corpus_hash;
    save_model(argv[4], weights, about);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "limpid_mean_weights: %s\n", error.what());
    return 1;
  }
  return 0;
}
