// The two pixel-by-pixel ends of the network, each in one pass over memory on the CPU.
#pragma once

#include <torch/torch.h>

namespace limpid {

/// How the network sees light: x / 2 (x^2 + knee^2)^(-3/8), linear in the noise, a fourth root far
/// above it. `planes` has channels last.
torch::Tensor compressed(const torch::Tensor& planes);

/// out = tile + sum_k alpha_k (guide_k - tile) + r sqrt(knee^2 + tile^2 + last guide^2), per value.
/// `planes`: (N, (1 + guides) * colour + rest, h, w) channels last, float, no gradient;
/// `answer`: (N, (guides + 1) * colour, h, w): the alphas, then r. Returns (N, colour, h, w).
torch::Tensor mix_guides(const torch::Tensor& planes, const torch::Tensor& answer, int guides, int colour);

}  // namespace limpid
