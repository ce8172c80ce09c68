// After the last iteration: the sky around stars as the stack shows it, where the iterations have
// dug it away.
#pragma once

#include <cstddef>
#include <vector>

#include <limpid/hosts.h>
#include <limpid/image.h>

namespace limpid::multiframe {

/// What was iterated on and how, fine pixels.
struct Iterated {
  ConstView estimate;  ///< with a margin of `reach` on each side
  ConstView stack;     ///< without, NaN where nothing is known
  int reach = 0, factor = 1;
  float level = 0, sigma = 0;  ///< of the sky in the stack
  float relax = 1;
  int iterations = 0;
  /// Mean PSF of the frames, (1, 2 reach + 1, 2 reach + 1): per cell of a square grid over the
  /// frame, then per channel.
  const std::vector<Image>* kernels = nullptr;
  int grid = 1;
};

/// The estimate without its margin. Where stars cast light in the stack and the estimate was dug
/// away, it is the stack's sky less that light, with the noise that iterations give to a sky; if
/// that `pays`, the stars pay for what it brings. Of the threads only so many work as
/// `memory_bytes` are enough for, but one. Hosts share the work; all of them get the same bytes.
Image with_sky_of_stack(const Iterated& iterated, bool pays, int threads, std::size_t memory_bytes,
                        const Hosts& hosts = {});

}  // namespace limpid::multiframe
