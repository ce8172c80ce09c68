// Between Image and torch::Tensor.
#pragma once

#include <torch/torch.h>

#include <limpid/image.h>

namespace limpid {

/// A copy of what the view shows: float (channels, height, width) on the CPU.
torch::Tensor to_tensor(ConstView view);
/// A copy of a (channels, height, width) tensor of any type and device.
Image to_image(const torch::Tensor& tensor);

}  // namespace limpid
