#include "nn/torch_device.h"

#include <limpid/error.h>

namespace limpid {

torch::ScalarType scalar_type(Precision precision, const torch::Device& device) {
  return in_bfloat16(precision, device.is_cuda()) ? torch::kBFloat16 : torch::kFloat;
}

torch::Device torch_device(const Device& device) {
  const bool available = torch::cuda::is_available();
  if (device.kind == Device::Kind::cuda) {
    if (!available || device.index >= static_cast<int>(torch::cuda::device_count())) {
      throw Error(ErrorKind::exhausted, "no CUDA device " + std::to_string(device.index) +
                                            " is usable by this LibTorch; use --device cpu");
    }
    return {torch::kCUDA, static_cast<c10::DeviceIndex>(device.index)};
  }
  if (device.kind == Device::Kind::automatic && available) return {torch::kCUDA, 0};
  return {torch::kCPU};
}

}  // namespace limpid
