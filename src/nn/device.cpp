#include "nn/device.h"

#include <charconv>

#include <limpid/error.h>

#include "nn/convolution.h"

namespace limpid {

Device Device::parse(const std::string& text) {
  if (text == "auto") return {};
  if (text == "cpu") return {Kind::cpu, 0};
  if (text == "cuda") return {Kind::cuda, 0};
  if (text.rfind("cuda:", 0) == 0) {
    int index = -1;
    const auto [end, failure] = std::from_chars(text.data() + 5, text.data() + text.size(), index);
    if (failure == std::errc() && end == text.data() + text.size() && index >= 0)
      return {Kind::cuda, index};
  }
  throw Error(ErrorKind::usage, "--device " + text + ": give auto, cpu, cuda or cuda:N");
}

Precision parse_precision(const std::string& text) {
  if (text == "auto") return Precision::automatic;
  if (text == "f32") return Precision::f32;
  if (text == "bf16") return Precision::bf16;
  throw Error(ErrorKind::usage, "--precision " + text + ": give auto, f32 or bf16");
}

torch::ScalarType scalar_type(Precision precision, const torch::Device& device) {
  const bool narrow = precision == Precision::bf16 ||
                      (precision == Precision::automatic && bfloat16_is_fast(device));
  return narrow ? torch::kBFloat16 : torch::kFloat;
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

bool bfloat16_is_fast(const torch::Device& device) {
  return device.is_cuda() || has_convolutions(Arithmetic::bfloats);
}

}  // namespace limpid
