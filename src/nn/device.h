// Where a network is computed, and in what.
#pragma once

#include <limpid/network.h>

namespace limpid {

/// LibTorch is only asked where a CUDA device is wanted, or the system may have one. Throws
/// Error(exhausted) when one is asked for and there is none, and what torch_library() throws.
bool on_graphics_card(const Device& device);
/// bfloat16 pays where the processor multiplies it natively; elsewhere float32 is faster.
bool in_bfloat16(Precision precision, bool on_card);

}  // namespace limpid
