// The U-Net where its convolutions are our own: what comes before and after each is done with it.
#pragma once

#include <torch/torch.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <limpid/image.h>

#include "nn/convolution.h"
#include "nn/mixing.h"

namespace limpid {

class UnetOnCpu {
 public:
  virtual ~UnetOnCpu() = default;
  /// As Architecture::infer(); `stem_shift`, `down_shift`: what the controls add to the first layer
  /// of each level, (1, channels).
  [[nodiscard]] virtual torch::Tensor run(const std::vector<Plane>& planes, Size size, Rect wanted,
                                          const torch::Tensor& stem_shift,
                                          const torch::Tensor& down_shift) const = 0;
};

/// `parameters`: of a guided_unet, by name, all channels multiples of 16; `blocks`: as in
/// ArchitectureOptions. `narrow`: the same bits as its layers give in bfloat16. `by`: not LibTorch.
std::unique_ptr<UnetOnCpu> make_unet_on_cpu(const std::map<std::string, torch::Tensor>& parameters,
                                            const std::vector<int>& blocks, bool narrow,
                                            Arithmetic by);

}  // namespace limpid
