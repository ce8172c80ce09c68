#include "nn/tensors.h"

#include <algorithm>

namespace limpid {

torch::Tensor to_tensor(ConstView view) {
  auto tensor = torch::empty({view.channels(), view.height(), view.width()});
  float* out = tensor.data_ptr<float>();
  for (int c = 0; c < view.channels(); ++c) {
    for (int y = 0; y < view.height(); ++y) {
      const auto row = view.row(c, y);
      out = std::copy(row.begin(), row.end(), out);
    }
  }
  return tensor;
}

Image to_image(const torch::Tensor& tensor) {
  const auto plain = tensor.to(torch::kFloat).cpu().contiguous();
  Image image = Image::unset(static_cast<int>(plain.size(0)),
                             {static_cast<int>(plain.size(2)), static_cast<int>(plain.size(1))});
  std::copy_n(plain.data_ptr<float>(), plain.numel(), image.pixels().data());
  return image;
}

torch::Tensor to_tensor(const Parameter& parameter) {
  auto tensor = torch::empty(parameter.shape);
  std::ranges::copy(parameter.values, tensor.data_ptr<float>());
  return tensor;
}

Parameter to_parameter(const torch::Tensor& tensor) {
  const auto plain = tensor.detach().to(torch::kFloat).cpu().contiguous();
  const float* first = plain.data_ptr<float>();
  return {plain.sizes().vec(), {first, first + plain.numel()}};
}

std::map<std::string, torch::Tensor> to_tensors(const Parameters& parameters) {
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [name, parameter] : parameters) tensors[name] = to_tensor(parameter);
  return tensors;
}

BFloat16* bfloats_of(const torch::Tensor& tensor) {
  static_assert(sizeof(BFloat16) == sizeof(c10::BFloat16));
  return reinterpret_cast<BFloat16*>(tensor.data_ptr<c10::BFloat16>());
}

}  // namespace limpid
