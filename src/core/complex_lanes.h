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

/// Of fewer values at the end of a line; the others are 0.
inline FloatLanes load_some(const std::complex<float>* from, std::size_t count) {
  if (count == complex_lane_count) return load_lanes(from);
  FloatLanes values{};
  std::memcpy(&values, from, count * sizeof(std::complex<float>));
  return values;
}
inline void store_some(std::complex<float>* to, FloatLanes values, std::size_t count) {
  if (count == complex_lane_count) return store_lanes(to, values);
  std::memcpy(static_cast<void*>(to), &values, count * sizeof(std::complex<float>));
}

/// Of numbers, each for the real and for the imaginary part; of fewer as above.
inline FloatLanes doubled(const float* from, std::size_t count) {
  using Four = float __attribute__((vector_size(16)));
  Four values{};
  if (count == complex_lane_count) {
    std::memcpy(&values, from, sizeof values);
  } else {
    std::memcpy(&values, from, count * sizeof(float));
  }
  return __builtin_shufflevector(values, values, 0, 0, 1, 1, 2, 2, 3, 3);
}

inline constexpr FloatLanes plus_minus{1, -1, 1, -1, 1, -1, 1, -1};
inline FloatLanes conjugate(FloatLanes values) { return values * plus_minus; }
/// Real for imaginary parts.
inline FloatLanes parts_swapped(FloatLanes values) {
  return __builtin_shufflevector(values, values, 1, 0, 3, 2, 5, 4, 7, 6);
}

/// The last of the four first.
inline FloatLanes reversed(FloatLanes values) {
  return __builtin_shufflevector(values, values, 6, 7, 4, 5, 2, 3, 0, 1);
}
inline FloatLanes product(FloatLanes a, FloatLanes b) {
  const FloatLanes real = __builtin_shufflevector(a, a, 0, 0, 2, 2, 4, 4, 6, 6),
                   imaginary = __builtin_shufflevector(a, a, 1, 1, 3, 3, 5, 5, 7, 7);
  return real * b - imaginary * conjugate(parts_swapped(b));
}
inline constexpr FloatLanes real_part{1, 0, 1, 0, 1, 0, 1, 0};
/// Squares of the amounts, in both parts.
inline FloatLanes powers(FloatLanes values) {
  const FloatLanes squares = values * values;
  return squares + parts_swapped(squares);
}

/// Real and imaginary parts of eight values, 0 1 4 5 2 3 6 7: the order that costs least.
struct ComplexParts {
  FloatLanes real, imaginary;
};
inline constexpr std::size_t parts_lane_count = float_lane_count;
inline ComplexParts load_parts(const std::complex<float>* from) {
  const FloatLanes low = load_lanes(from), high = load_lanes(from + complex_lane_count);
  return {__builtin_shufflevector(low, high, 0, 2, 8, 10, 4, 6, 12, 14),
          __builtin_shufflevector(low, high, 1, 3, 9, 11, 5, 7, 13, 15)};
}
inline void store_parts(std::complex<float>* to, ComplexParts values) {
  const auto [real, imaginary] = values;
  store_lanes(to, __builtin_shufflevector(real, imaginary, 0, 8, 1, 9, 4, 12, 5, 13));
  store_lanes(to + complex_lane_count,
              __builtin_shufflevector(real, imaginary, 2, 10, 3, 11, 6, 14, 7, 15));
}
/// Between the order of parts and that of memory: the one way is the other.
inline FloatLanes reordered(FloatLanes values) {
  return __builtin_shufflevector(values, values, 0, 1, 4, 5, 2, 3, 6, 7);
}

}  // namespace limpid
