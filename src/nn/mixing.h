// The two pixel-by-pixel ends of the network as tensors, each in one pass over memory on the CPU.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "nn/block_rows.h"

namespace limpid {

/// How the network sees light: x / 2 (x^2 + knee^2)^(-3/8), linear in the noise, a fourth root far
/// above it. `planes` has channels last.
torch::Tensor compressed(const torch::Tensor& planes);

/// out = tile + sum_k alpha_k (guide_k - tile) + r sqrt(knee^2 + tile^2 + last guide^2), per value.
/// `planes`: (N, (1 + guides) * colour + rest, h, w) channels last, float, no gradient;
/// `answer`: (N, (guides + 1) * colour, h, w): the alphas, then r. Returns (N, colour, h, w).
torch::Tensor mix_guides(const torch::Tensor& planes, const torch::Tensor& answer, int guides,
                         int colour);

/// compressed() of planes that are not yet laid into blocks: (1, planes * block_area, h, w) of
/// `type` (float32 or bfloat16), channels last. `height` and `width` in pixels.
torch::Tensor compressed_blocks(const std::vector<Plane>& planes, std::int64_t height,
                                std::int64_t width, torch::ScalarType type);

/// mix_guides() of such planes; `answer` in float32 or bfloat16. Returns (3, height, width).
torch::Tensor mix_planes(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                         const torch::Tensor& answer, int guides);

}  // namespace limpid
