// The upper half of a float, as processors multiply them.
#pragma once

#include <bit>
#include <cstdint>

namespace limpid {

/// Rounded to the nearest, to even ones between two.
struct BFloat16 {
  std::uint16_t bits;

  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto whole = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (whole + 0x7fffU + ((whole >> 16U) & 1U)) >> 16U;
    constexpr std::uint32_t no_number = 0x7fc0, infinite = 0x7f800000;
    const bool is_nan = (whole & 0x7fffffffU) > infinite;
    bits = static_cast<std::uint16_t>(is_nan ? no_number : rounded);
  }
  operator float() const {  // NOLINT(google-explicit-constructor): each is a float
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
  }
};

/// The nearest float that a BFloat16 holds.
inline float rounded_to_bfloat16(float value) { return BFloat16(value); }

}  // namespace limpid
