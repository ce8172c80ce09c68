// Where tensors live.
#pragma once

#include <torch/torch.h>

#include "nn/device.h"

namespace limpid {

/// Throws Error(exhausted) when a CUDA device is asked for and there is none.
torch::Device torch_device(const Device& device);
/// What the convolutions of a device compute in.
torch::ScalarType scalar_type(Precision precision, const torch::Device& device);

}  // namespace limpid
