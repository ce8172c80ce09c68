// Several processes that work on one task together.
#pragma once

#include <functional>
#include <span>

namespace limpid {

/// How several processes work on one thing. Default: alone. Of a set of frames each frame has one
/// that measures it and solves for it.
struct Hosts {
  int rank = 0, count = 1;
  /// Replaces the values by their sum over all hosts, the same bytes on each. All hosts make the
  /// same calls, with as many values, from one thread at a time.
  std::function<void(std::span<float>)> sum = {};
  int on_this_machine = 1;  ///< processes that share its cores and memory, this one included

  [[nodiscard]] bool owns(int i) const { return i % count == rank; }
};

}  // namespace limpid
