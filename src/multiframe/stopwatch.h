// How much time the parts of an iteration take.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace limpid::multiframe {

/// Adds the time until its end. Of the wall clock: the processor's time of a thread is asked of the
/// kernel, which for two hundred parts of a frame took 2 % of all; on a busy machine other programs
/// take their share of all parts.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<std::uint64_t>& total) : total_(&total), start_(now()) {}
  ~Stopwatch() { total_->fetch_add(now() - start_, std::memory_order_relaxed); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  static std::uint64_t now() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                          std::chrono::steady_clock::now().time_since_epoch())
                                          .count());
  }
  std::atomic<std::uint64_t>* total_;
  std::uint64_t start_;
};

}  // namespace limpid::multiframe
