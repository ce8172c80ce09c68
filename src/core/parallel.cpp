#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace limpid {

int thread_count(int threads) {
  if (threads > 0) return threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(int count, int threads, const std::function<void(int)>& body) {
  const int workers = std::min(thread_count(threads), count);
  if (workers <= 1) {
    for (int i = 0; i < count; ++i) body(i);
    return;
  }
  std::atomic<int> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  int failed_index = count;
  // Indices are handed out in ascending order, so the lowest one that fails is always among those
  // that ran: which exception the caller sees does not depend on the threads.
  const auto work = [&] {
    for (int i = next++; i < count; i = next++) {
      try {
        body(i);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        next = count;
        if (i < failed_index) {
          failed_index = i;
          failure = std::current_exception();
        }
      }
    }
  };
  {
    std::vector<std::jthread> others;
    others.reserve(static_cast<std::size_t>(workers - 1));
    try {
      for (int i = 1; i < workers; ++i) others.emplace_back(work);
    } catch (const std::system_error&) {
      // the system grants no more threads: those that there are do the work
    }
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

RowsInOrder::RowsInOrder(int rows, int tiles_in_row, std::function<void(int row)> use)
    : use_(std::move(use)),
      missing_(static_cast<std::size_t>(rows), tiles_in_row) {}

bool RowsInOrder::is_next_ready() const {
  const auto is_complete = [&](std::size_t row) {
    return row >= missing_.size() || missing_[row] == 0;
  };
  return next_ < missing_.size() && is_complete(next_) && is_complete(next_ + 1);
}

void RowsInOrder::complete_tile(int row) {
  std::unique_lock lock(mutex_);
  --missing_[static_cast<std::size_t>(row)];
  while (!in_use_ && is_next_ready()) {
    in_use_ = true;
    lock.unlock();
    use_(static_cast<int>(next_));
    lock.lock();
    in_use_ = false;
    ++next_;
  }
}

}  // namespace limpid
