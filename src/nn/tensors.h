// Between torch::Tensor and what limpid has without LibTorch.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>

#include <limpid/image.h>

#include "nn/bfloat16.h"
#include "nn/parameters.h"

namespace limpid {

/// A copy of what the view shows: float (channels, height, width) on the CPU.
torch::Tensor to_tensor(ConstView view);
/// A copy of a (channels, height, width) tensor of any type and device.
Image to_image(const torch::Tensor& tensor);

/// Float tensors of the same shape, and copies of a tensor of any type and device.
torch::Tensor to_tensor(const Parameter& parameter);
Parameter to_parameter(const torch::Tensor& tensor);
std::map<std::string, torch::Tensor> to_tensors(const Parameters& parameters);

/// The values of a contiguous bfloat16 tensor on the CPU, as our own type has them.
BFloat16* bfloats_of(const torch::Tensor& tensor);

}  // namespace limpid
