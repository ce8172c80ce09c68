// The guide planes by LibTorch: on graphics cards, and for training.
#pragma once

#include <torch/torch.h>

#include "nn/guides.h"

namespace limpid {

/// W = (G_out conj(G) + lambda) / (|G|^2 + lambda): undoes the local PSF G as far as lambda lets
/// it, puts the wanted G_out in its place, and leaves alone what G has destroyed.
/// `tile`: float (3, h, w), treated as periodic. Returns (guide_count, 3, h, w).
torch::Tensor guide_planes(const torch::Tensor& tile, const TileControls& controls);

}  // namespace limpid
