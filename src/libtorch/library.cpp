// What liblimpid-torch offers, see core/torch_library.h.
#include "core/torch_library.h"

#include "nn/torch_engine.h"
#include "train/torch_training.h"
#ifndef LIMPID_TRAINER_ONLY
#include "multiframe/accelerator.h"
#endif

extern "C" const limpid::TorchLibrary* limpid_torch_library() {
  static constexpr limpid::TorchLibrary library{
      .version = LIMPID_VERSION,
      .networks = &limpid::torch_networks,
      .training = &limpid::torch_training,
#ifdef LIMPID_TRAINER_ONLY
      .accelerators = nullptr,
#else
      .accelerators = &limpid::multiframe::torch_accelerators,
#endif
  };
  return &library;
}
