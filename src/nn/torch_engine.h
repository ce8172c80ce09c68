// A network that LibTorch computes, in the library that has it.
#pragma once

#include <memory>

#include "nn/engine.h"

namespace limpid {

struct TorchNetworks {
  /// make_torch_engine().
  std::unique_ptr<Engine> (*make_engine)(const NetworkFile& file, const Device& device,
                                         Precision precision);
  /// Whether LibTorch takes a CUDA device for it. Throws Error(exhausted) when one is asked for and
  /// there is none.
  bool (*on_cuda)(const Device& device);
};
extern const TorchNetworks torch_networks;

/// Throws Error(bad_model), and Error(exhausted) when a CUDA device is asked for and there is none.
std::unique_ptr<Engine> make_torch_engine(const NetworkFile& file, const Device& device,
                                          Precision precision);

}  // namespace limpid
