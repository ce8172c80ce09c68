// The U-Net where its convolutions are our own: what comes before and after each is done with it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include <limpid/image.h>

#include "nn/block_rows.h"
#include "nn/convolution.h"
#include "nn/parameters.h"

namespace limpid {

class UnetOnCpu {
 public:
  virtual ~UnetOnCpu() = default;
  /// Of one tile whose planes lie apart, the part that is `wanted`, which is made of whole blocks:
  /// (3, its height, its width). `controls`: control_count of them.
  [[nodiscard]] virtual Image run(const std::vector<Plane>& planes, Size size, Rect wanted,
                                  std::span<const float> controls, int threads) const = 0;
};

/// `parameters`: of a guided_unet, by name, all channels multiples of 16; `blocks`: as in
/// ArchitectureOptions. `narrow`: in bfloat16, the same bits by all that can; what lies between the
/// two convolutions of a block, and the answer, are not rounded. `by`: not LibTorch.
std::unique_ptr<UnetOnCpu> make_unet_on_cpu(const Parameters& parameters,
                                            const std::vector<int>& blocks, bool narrow,
                                            Arithmetic by);

}  // namespace limpid
