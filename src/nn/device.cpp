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

bool in_bfloat16(Precision precision, bool on_card) {
  if (precision != Precision::automatic) return precision == Precision::bf16;
  return on_card || has_convolutions(Arithmetic::bfloats);
}

}  // namespace limpid
