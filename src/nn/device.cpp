#include "nn/device.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include <limpid/error.h>

#include "core/torch_library.h"
#include "nn/convolution.h"
#include "nn/torch_engine.h"

namespace limpid {
namespace {

/// Whether a driver of graphics cards that LibTorch knows is at work: NVIDIA's, the same inside
/// Windows, AMD's.
bool may_have_card() {
  std::error_code failure;
  return std::ranges::any_of(
      std::array{"/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd"},
      [&](const char* file) { return std::filesystem::exists(file, failure); });
}

}  // namespace

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

bool on_graphics_card(const Device& device) {
  if (device.kind == Device::Kind::cpu) return false;
  if (device.kind == Device::Kind::automatic && !may_have_card()) return false;
  return torch_library("a graphics card").networks->on_cuda(device);
}

bool in_bfloat16(Precision precision, bool on_card) {
  if (precision != Precision::automatic) return precision == Precision::bf16;
  return on_card || has_convolutions(Arithmetic::bfloats);
}

}  // namespace limpid
