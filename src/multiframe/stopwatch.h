// How much processor time the parts of an iteration take.
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>

namespace limpid::multiframe {

/// Adds this thread's processor time until its end.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<std::uint64_t>& total) : total_(&total), start_(now()) {}
  ~Stopwatch() { total_->fetch_add(now() - start_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  static std::uint64_t now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1000000000U +
           static_cast<std::uint64_t>(time.tv_nsec);
  }
  std::atomic<std::uint64_t>* total_;
  std::uint64_t start_;
};

}  // namespace limpid::multiframe
