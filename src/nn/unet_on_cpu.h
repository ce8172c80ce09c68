// The U-Net where its convolutions are our own: what comes before and after each is done with it.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "nn/convolution.h"
#include "nn/mixing.h"

namespace limpid {

class UnetOnCpu {
 public:
  /// `parameters`: of a guided_unet, by name, all channels multiples of 16; `blocks`: as in
  /// ArchitectureOptions. `narrow`: the same bits as its layers give in bfloat16.
  UnetOnCpu(const std::map<std::string, torch::Tensor>& parameters, const std::vector<int>& blocks,
            bool narrow);
  /// As Architecture::infer(); `stem_shift`, `down_shift`: what the controls add to the first layer
  /// of each level, (1, channels).
  [[nodiscard]] torch::Tensor run(const std::vector<Plane>& planes, std::int64_t height,
                                  std::int64_t width, const torch::Tensor& stem_shift,
                                  const torch::Tensor& down_shift) const;

 private:
  struct ResidualBlock {
    Convolution first, second;
  };
  static void run_blocks(const std::vector<ResidualBlock>& blocks, Activations& x);

  bool narrow_;
  Convolution stem_, down_;
  std::vector<Convolution> up_;  ///< to the four places of the finer level, row by row
  Convolution head_;
  std::vector<ResidualBlock> encoder_, middle_, decoder_;
};

}  // namespace limpid
