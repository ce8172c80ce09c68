#include <algorithm>

#include <limpid/error.h>

#include "nn/architecture.h"

namespace limpid {

std::shared_ptr<Architecture> build_architecture(const std::string& name,
                                                 const ArchitectureOptions& options) {
  using Builder = std::shared_ptr<Architecture> (*)(const ArchitectureOptions&);
  static const std::map<std::string, Builder> table{{"guided_unet", build_guided_unet}};
  const auto entry = table.find(name);
  if (entry == table.end()) {
    throw Error(ErrorKind::bad_model,
                "unknown network architecture '" + name + "'; these weights need a newer limpid");
  }
  return entry->second(options);
}

torch::Tensor Architecture::infer(const std::vector<Plane>& planes, Size size, Rect wanted,
                                  const torch::Tensor& controls) {
  auto together = torch::empty({static_cast<std::int64_t>(planes.size()), size.height, size.width});
  float* to = together.data_ptr<float>();
  for (const Plane& plane : planes) {
    for (int y = 0; y < size.height; ++y) {
      to = std::copy_n(plane.first + y * plane.stride, size.width, to);
    }
  }
  return cropped(from_blocks(forward(to_blocks(together), controls).to(torch::kFloat)), wanted);
}

void Architecture::lay_channels_last() {
  for (auto& parameter : parameters()) {
    if (parameter.dim() == 4)
      parameter.set_data(parameter.contiguous(torch::MemoryFormat::ChannelsLast));
  }
}

torch::Tensor to_blocks(const torch::Tensor& planes) {
  const auto p = planes.size(0), h = planes.size(1) / block_px, w = planes.size(2) / block_px;
  return planes.view({p, h, block_px, w, block_px})
      .permute({1, 3, 0, 2, 4})
      .contiguous()
      .view({1, h, w, p * block_area})
      .permute({0, 3, 1, 2});
}

torch::Tensor cropped(const torch::Tensor& image, Rect wanted) {
  return image.narrow(1, wanted.y, wanted.height).narrow(2, wanted.x, wanted.width);
}

torch::Tensor from_blocks(const torch::Tensor& blocks) {
  const auto c = blocks.size(1) / block_area, h = blocks.size(2), w = blocks.size(3);
  return blocks.permute({0, 2, 3, 1})
      .reshape({h, w, c, block_px, block_px})
      .permute({2, 0, 3, 1, 4})
      .contiguous()
      .view({c, h * block_px, w * block_px});
}

}  // namespace limpid
