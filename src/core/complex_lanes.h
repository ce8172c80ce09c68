// Four complex values worked on together, as eight floats: what the compiler makes of a loop over
// real and imaginary parts is three times as many instructions.
#pragma once

#include <complex>
#include <cstddef>
#include <cstring>

#include "core/lanes.h"

namespace limpid {

inline constexpr std::size_t complex_lane_count = float_lane_count / 2;

inline FloatLanes load_lanes(const std::complex<float>* from) {
  FloatLanes values;
  std::memcpy(&values, from, sizeof values);
  return values;
}
inline void store_lanes(std::complex<float>* to, FloatLanes values) {
  std::memcpy(static_cast<void*>(to), &values, sizeof values);
}

inline constexpr FloatLanes plus_minus{1, -1, 1, -1, 1, -1, 1, -1};
inline FloatLanes conjugate(FloatLanes values) { return values * plus_minus; }
/// Real for imaginary parts.
inline FloatLanes parts_swapped(FloatLanes values) {
  return __builtin_shufflevector(values, values, 1, 0, 3, 2, 5, 4, 7, 6);
}

}  // namespace limpid
