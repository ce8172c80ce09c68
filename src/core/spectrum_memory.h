// Memory that Fourier transforms work in.
#pragma once

#include <complex>
#include <cstddef>

#include <limpid/image.h>

#include "core/aligned.h"

namespace limpid {

/// The smallest number of values of at least `count` that fills cache lines.
constexpr std::size_t filled_line(int count) {
  constexpr std::size_t line = 64 / sizeof(std::complex<float>);
  return (static_cast<std::size_t>(count) + line - 1) / line * line;
}

/// The same for lines that are read across: where many would begin on the same line of a cache, as
/// they do 4096 bytes apart, they begin on the next.
constexpr std::size_t spread_line(int count) {
  const std::size_t filled = filled_line(count);
  return filled % 64 == 0 ? filled + filled_line(1) : filled;
}

using SpectrumMemory = AlignedValues<std::complex<float>>;

/// `count` values that begin on a cache line, not set, for transforms of `size`. Throws
/// Error(exhausted).
SpectrumMemory allocate_spectrum(std::size_t count, Size size);

}  // namespace limpid
