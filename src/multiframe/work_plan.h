// How the work on a set is cut up so that it fits the memory: tiles, transforms, frames at once.
#pragma once

#include <cstddef>
#include <vector>

#include <limpid/image.h>

namespace limpid::multiframe {

/// A part of the set's pixels that is worked on at once, and which PSFs hold there.
struct Tile {
  Rect data;                              ///< frame pixels
  int cell = 0;                           ///< of the grid of PSFs
  std::vector<float> window_x, window_y;  ///< weight of its columns and rows; empty: 1
};

struct WorkPlan {
  std::vector<Tile> tiles;
  Size transform;  ///< of all Fourier transforms, fine pixels
  int frames_at_once = 1;
  bool keep_frames = false, keep_transfers = false;
  std::size_t bytes = 0;       ///< estimated peak
  std::size_t work_bytes = 0;  ///< of these, what is free again after an iteration
};

struct WorkRequest {
  Size frame, canvas;  ///< canvas: fine pixels, with the margin
  int members = 0;     ///< of this process
  int channels = 1, factor = 1, reach = 0, psf_grid = 1;
  int tile_limit = 0, batch_limit = 0;  ///< lowered when memory runs out; 0: none
  std::size_t budget = 0;               ///< bytes
};

/// The plan that fits the budget and transforms fewest pixels. Throws Error(exhausted).
WorkPlan plan_work(const WorkRequest& request);

}  // namespace limpid::multiframe
