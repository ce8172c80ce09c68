// Stars taken out of pictures that shall show what lies behind them.
#pragma once

#include <torch/torch.h>

namespace limpid {

/// Stars of a display-scale picture (3, h, w) replaced by their surroundings; how many.
int remove_stars(torch::Tensor& picture);

}  // namespace limpid
