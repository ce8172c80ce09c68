// What a network must offer, and the table of those that there are.
#pragma once

#include <torch/torch.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <limpid/image.h>

#include "nn/mixing.h"
#include "nn/shape.h"

namespace limpid {

class Architecture : public torch::nn::Module {
 public:
  /// `planes`: (N, plane_count * block_area, h, w), linear, in units of the sky noise, channels
  /// last; plane p, pixel (i, j) of a block is channel p * block_area + i * block_px + j.
  /// `controls`: (N, control_count). Returns (N, 3 * block_area, h, w) in the same layout.
  virtual torch::Tensor forward(const torch::Tensor& planes, const torch::Tensor& controls) = 0;
  /// The same of one tile on the CPU whose planes lie apart, and of that the part that is `wanted`,
  /// which is made of whole blocks: (3, its height, its width). This one lays them into blocks and
  /// calls forward(); a network may do better.
  virtual torch::Tensor infer(const std::vector<Plane>& planes, Size size, Rect wanted,
                              const torch::Tensor& controls);
  /// Lays the weights of convolutions as blocks lie, channels last.
  void lay_channels_last();
  /// Multiply-adds per pixel of one forward pass.
  [[nodiscard]] virtual double multiply_adds_per_pixel() const = 0;
};

/// Throws Error(bad_model) for a name that is not in the table.
std::shared_ptr<Architecture> build_architecture(const std::string& name,
                                                 const ArchitectureOptions& options);
std::shared_ptr<Architecture> build_guided_unet(const ArchitectureOptions& options);

/// (planes, H, W) contiguous -> (1, planes * block_area, H / block_px, W / block_px) channels last.
torch::Tensor to_blocks(const torch::Tensor& planes);
/// (channels, H, W): the part that is wanted.
torch::Tensor cropped(const torch::Tensor& image, Rect wanted);
/// The inverse for one image: (1, channels * block_area, h, w) -> (channels, H, W).
torch::Tensor from_blocks(const torch::Tensor& blocks);

}  // namespace limpid
