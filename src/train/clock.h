// Time as the trainer counts it.
#pragma once

#include <chrono>

namespace limpid {

/// Since some moment in the past; never goes back.
inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace limpid
