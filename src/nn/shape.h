// What the network sees and how it lies: planes, blocks, widths.
#pragma once

#include <vector>

#include "nn/guides.h"

namespace limpid {

/// Planes that a network sees per pixel: the tile, its guide planes, the clipped-core mask.
inline constexpr int plane_count = 3 + 3 * guide_count + 1;

/// Networks work on blocks of `block_px` x `block_px` pixels laid into channels ("space to depth").
inline constexpr int block_px = 4, block_area = block_px * block_px;

/// Widths per level and residual blocks (encoder, middle, decoder); kept in the weights' metadata.
struct ArchitectureOptions {
  std::vector<int> widths{48, 96};
  std::vector<int> blocks{0, 1, 1};
};

}  // namespace limpid
