// The two pixel-by-pixel ends of the network, each in one pass over memory on the CPU.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

namespace limpid {

/// How the network sees light: x / 2 (x^2 + knee^2)^(-3/8), linear in the noise, a fourth root far
/// above it. `planes` has channels last.
torch::Tensor compressed(const torch::Tensor& planes);

/// out = tile + sum_k alpha_k (guide_k - tile) + r sqrt(knee^2 + tile^2 + last guide^2), per value.
/// `planes`: (N, (1 + guides) * colour + rest, h, w) channels last, float, no gradient;
/// `answer`: (N, (guides + 1) * colour, h, w): the alphas, then r. Returns (N, colour, h, w).
torch::Tensor mix_guides(const torch::Tensor& planes, const torch::Tensor& answer, int guides,
                         int colour);

/// One plane of a tile in memory: its first pixel, and how far apart its rows are.
struct Plane {
  const float* first = nullptr;
  std::int64_t stride = 0;
};

/// compressed() of planes that are not yet laid into blocks: (1, planes * block_area, h, w) of
/// `type` (float32 or bfloat16), channels last. `height` and `width` in pixels.
torch::Tensor compressed_blocks(const std::vector<Plane>& planes, std::int64_t height,
                                std::int64_t width, torch::ScalarType type);

/// One row of these blocks; `narrow`: rounded to bfloat16, which floats may hold too.
void compress_block_row(const std::vector<Plane>& planes, std::int64_t width,
                        std::int64_t block_row, bool narrow, float* out);
void compress_block_row(const std::vector<Plane>& planes, std::int64_t width,
                        std::int64_t block_row, bool narrow, c10::BFloat16* out);

/// mix_guides() of such planes; `answer` in float32 or bfloat16. Returns (3, height, width).
torch::Tensor mix_planes(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                         const torch::Tensor& answer, int guides);

/// One row of blocks of it, of which `told` is the answer, into its place of (3, height, width).
void mix_block_row(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                   std::int64_t block_row, const float* told, int guides, float* out);
void mix_block_row(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                   std::int64_t block_row, const c10::BFloat16* told, int guides, float* out);

}  // namespace limpid
