// Frames of larger pixels.
#pragma once

#include <limpid/image.h>

namespace limpid {

/// Means of factor x factor pixels; rows and columns that fill no block are left out.
Image binned(ConstView frame, int factor);

}  // namespace limpid
