// Where a network is computed, and in what.
#pragma once

#include <limpid/network.h>

namespace limpid {

/// Throws Error(exhausted) when a CUDA device is asked for and there is none.
bool on_graphics_card(const Device& device);
/// bfloat16 pays where the processor multiplies it natively; elsewhere float32 is faster.
bool in_bfloat16(Precision precision, bool on_card);

}  // namespace limpid
