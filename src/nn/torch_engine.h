// A network that LibTorch computes.
#pragma once

#include <filesystem>
#include <memory>

#include "nn/engine.h"

namespace limpid {

/// Throws Error(bad_model), and Error(exhausted) when a CUDA device is asked for and there is none.
std::unique_ptr<Engine> make_torch_engine(const std::filesystem::path& weights,
                                          const Device& device, Precision precision);

}  // namespace limpid
