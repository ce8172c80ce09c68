// The two pixel-by-pixel ends of the network, one row of blocks at a time: see mixing.h.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/bfloat16.h"

namespace limpid {

/// One plane of a tile in memory: its first pixel, and how far apart its rows are.
struct Plane {
  const float* first = nullptr;
  std::int64_t stride = 0;
};

/// What the network sees of one row of blocks, (width / block_px, planes * block_area); `width` in
/// pixels. `narrow`: rounded to bfloat16, which floats may hold too.
void compress_block_row(const std::vector<Plane>& planes, std::int64_t width,
                        std::int64_t block_row, bool narrow, float* out);
void compress_block_row(const std::vector<Plane>& planes, std::int64_t width,
                        std::int64_t block_row, bool narrow, BFloat16* out);

/// One row of blocks of the result, of which `told` is the answer, into its place of
/// (3, height, width): tile + sum_k alpha_k (guide_k - tile) + r sqrt(knee^2 + tile^2 + last^2).
void mix_block_row(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                   std::int64_t block_row, const float* told, int guides, float* out);
void mix_block_row(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                   std::int64_t block_row, const BFloat16* told, int guides, float* out);

}  // namespace limpid
