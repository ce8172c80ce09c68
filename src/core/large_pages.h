// Fewer faults for large memory.
#pragma once

#include <cstddef>
#include <memory>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace limpid {

/// Of memory that is touched from end to end, before that: one fault for two megabytes instead of
/// for four kilobytes. Blocks of less than `large` bytes are left as they are.
inline void ask_for_large_pages([[maybe_unused]] void* block, [[maybe_unused]] std::size_t bytes,
                                [[maybe_unused]] std::size_t large = std::size_t{8} << 20) {
#ifdef MADV_HUGEPAGE
  constexpr std::size_t page = 4096;
  if (bytes >= large && std::align(page, page, block, bytes) != nullptr)
    madvise(block, bytes / page * page, MADV_HUGEPAGE);
#endif
}

}  // namespace limpid
