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

}  // namespace limpid
