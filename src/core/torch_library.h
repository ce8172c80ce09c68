// The door to what needs LibTorch. That is a library of its own, liblimpid-torch, which is loaded
// when it is first needed: LibTorch takes a third of a second and 150 MB to start.
#pragma once

#include <string>

namespace limpid {

struct TorchNetworks;  // nn/torch_engine.h
struct TorchTraining;  // train/torch_training.h
namespace multiframe {
struct TorchAccelerators;  // multiframe/accelerator.h
}

/// What that library offers, layer by layer.
struct TorchLibrary {
  const char* version;  ///< of limpid; before everything else, so that any other can be told
  const TorchNetworks* networks;
  const TorchTraining* training;
  const multiframe::TorchAccelerators* accelerators;  ///< null in the trainer
};

/// Loads it at the first call. `purpose`: what needs LibTorch, for the message. Throws
/// Error(failed) where it is not installed, cannot be loaded or is another version's.
const TorchLibrary& torch_library(const std::string& purpose);

}  // namespace limpid
