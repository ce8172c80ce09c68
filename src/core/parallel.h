// The only source of threads in limpid.
#pragma once

#include <functional>

namespace limpid {

/// The number of threads meant by `threads`: 0 means every core that this process may use.
int thread_count(int threads);

/// Calls body(0) ... body(count - 1), each once, on up to `threads` threads (0: all cores), the
/// calling one included. The order is free, so each call must write to places of its own; what is
/// then summed up must be summed in the order of the index. Of several exceptions that with the
/// lowest index reaches the caller; no new call starts after the first.
void parallel_for(int count, int threads, const std::function<void(int)>& body);

}  // namespace limpid
