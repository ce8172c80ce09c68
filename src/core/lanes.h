// Eight floats or four doubles worked on together, with the functions that the compiler does not
// vectorise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <span>

namespace limpid {

inline constexpr int float_lane_count = 8;
using FloatLanes = float __attribute__((vector_size(float_lane_count * sizeof(float))));

inline FloatLanes load_floats(const float* from) {
  FloatLanes values;
  std::memcpy(&values, from, sizeof values);
  return values;
}
inline void store_floats(float* to, FloatLanes values) { std::memcpy(to, &values, sizeof values); }
/// Of fewer values at the end of a line; the others are 0.
inline FloatLanes load_some(const float* from, std::size_t count) {
  if (count == float_lane_count) return load_floats(from);
  FloatLanes values{};
  std::memcpy(&values, from, count * sizeof(float));
  return values;
}
inline void store_some(float* to, FloatLanes values, std::size_t count) {
  if (count == float_lane_count) return store_floats(to, values);
  std::memcpy(to, &values, count * sizeof(float));
}

/// Calls look(values) for all of them, eight at a time, the last ones filled up with `filler`.
template <typename Look>
void for_eights(std::span<const float> values, float filler, const Look& look) {
  std::size_t i = 0;
  for (; i + float_lane_count <= values.size(); i += float_lane_count)
    look(load_floats(&values[i]));
  if (i == values.size()) return;
  FloatLanes rest = FloatLanes{} + filler;
  std::memcpy(&rest, &values[i], (values.size() - i) * sizeof(float));
  look(rest);
}

inline constexpr std::size_t lane_count = 4;
using Lanes = double __attribute__((vector_size(lane_count * sizeof(double))));

inline Lanes lanes_of(double value) { return Lanes{value, value, value, value}; }

namespace lanes_detail {
using Bits = std::uint64_t __attribute__((vector_size(lane_count * sizeof(double))));
inline constexpr int mantissa_bits = 52;
/// Added to a small number it leaves that, rounded to an integer, in the last bits.
inline constexpr double rounder = 0x1.8p52;
}  // namespace lanes_detail

/// Natural logarithm of normal positive numbers, to two units in the last place: as fdlibm's (Sun
/// Microsystems 1993, e_log.c), x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
inline Lanes log_of(Lanes x) {
  using namespace lanes_detail;
  constexpr std::uint64_t half_root = 0x3fe6a09e667f3bcd,
                          bias = std::uint64_t{1024} << mantissa_bits;
  const Bits bits = reinterpret_cast<Bits>(x);
  const Bits exponent = (bits - half_root + bias) >> mantissa_bits;  // k + 1024
  constexpr std::uint64_t two_to_52 = 0x4330000000000000;
  const Lanes k = reinterpret_cast<Lanes>(exponent | two_to_52) - (0x1p52 + 1024);
  const Lanes f =
      reinterpret_cast<Lanes>(bits - ((exponent - std::uint64_t{1024}) << mantissa_bits)) - 1.0;
  const Lanes s = f / (2.0 + f), z = s * s, w = z * z;
  const Lanes even = w * (3.999999999940941908e-01 +
                          w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const Lanes odd = z * (6.666666666666735130e-01 +
                         w * (2.857142874366239149e-01 +
                              w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  const Lanes half_square = 0.5 * f * f;
  constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  return k * ln2_high - ((half_square - (s * (half_square + odd + even) + k * ln2_low)) - f);
}

/// Exponential of numbers between -700 and 700, to two units in the last place: 2^n times the
/// Taylor series of what is left, at most ln(2) / 2.
inline Lanes exp_of(Lanes x) {
  using namespace lanes_detail;
  const Lanes shifted = x * std::numbers::log2e + rounder, n = shifted - rounder;
  constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  const Lanes r = (x - n * ln2_high) - n * ln2_low;
  const Lanes r2 = r * r, r4 = r2 * r2;
  const Lanes low = (1.0 + r) + r2 * (1.0 / 2 + r * (1.0 / 6));
  const Lanes middle = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
  const Lanes high = (1.0 / 40320 + r * (1.0 / 362880)) +
                     r2 * (1.0 / 3628800 + r * (1.0 / 39916800) + r2 * (1.0 / 479001600));
  const Lanes power = low + r4 * (middle + r4 * high);
  return reinterpret_cast<Lanes>(reinterpret_cast<Bits>(power) +
                                 (reinterpret_cast<Bits>(shifted) << mantissa_bits));
}

}  // namespace limpid
