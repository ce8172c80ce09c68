// The only source of threads in limpid.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

namespace limpid {

/// The number of threads meant by `threads`: 0 means every core that this process may use.
int thread_count(int threads);

/// Calls body(0) ... body(count - 1), each once, on up to `threads` threads (0: all cores), the
/// calling one included. The order is free, so each call must write to places of its own; what is
/// then summed up must be summed in the order of the index. Of several exceptions that with the
/// lowest index reaches the caller; no new call starts after the first.
void parallel_for(int count, int threads, const std::function<void(int)>& body);

/// Hands on rows of tiles, in order, that threads complete in whatever order: each as soon as it
/// and the one behind it are complete. The thread that completes them does it, alone, while the
/// others go on with their tiles.
class RowsInOrder {
 public:
  RowsInOrder(int rows, int tiles_in_row, std::function<void(int row)> use);
  /// One more tile of the row is complete.
  void complete_tile(int row);

 private:
  [[nodiscard]] bool is_next_ready() const;

  std::function<void(int row)> use_;
  std::mutex mutex_;
  std::vector<int> missing_;  ///< tiles of each row
  std::size_t next_ = 0;      ///< row to be handed on
  bool in_use_ = false;       ///< it is being handed on
};

}  // namespace limpid
