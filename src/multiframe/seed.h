// Where the iterations begin: a stack that no satellite of an early frame can spoil.
#pragma once

#include <cstddef>

#include <limpid/image.h>
#include <limpid/multiframe.h>

#include "multiframe/frame_stream.h"

namespace limpid::multiframe {

enum class Stack { robust, median, mean, clipped };

/// Matched pixels of all members in one frame; NaN where none has data. Holds `band_bytes` of
/// pixels at a time.
Image stack(const FrameStream& stream, Stack kind, std::size_t band_bytes, const Hosts& hosts,
            int threads, const Progress& progress);

}  // namespace limpid::multiframe
