// Memory that begins on a cache line, more than any vector unit asks for.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

#include "core/large_pages.h"

namespace limpid {

struct FreeAligned {
  void operator()(void* values) const { std::free(values); }
};
template <typename Value>
using AlignedValues = std::unique_ptr<Value[], FreeAligned>;

/// `count` values, not set, in large pages from `large` bytes on. Throws std::bad_alloc.
template <typename Value>
AlignedValues<Value> allocate_aligned(std::size_t count, std::size_t large = std::size_t{8} << 20) {
  constexpr std::size_t line = 64;
  if (count > std::numeric_limits<std::ptrdiff_t>::max() / sizeof(Value)) throw std::bad_alloc();
  const std::size_t bytes = (count * sizeof(Value) + line - 1) / line * line;
  void* const block = std::aligned_alloc(line, bytes);
  if (block == nullptr) throw std::bad_alloc();
  ask_for_large_pages(block, bytes, large);
  return AlignedValues<Value>(static_cast<Value*>(block));
}

}  // namespace limpid
