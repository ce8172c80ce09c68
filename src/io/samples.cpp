#include "samples.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/lanes.h"

namespace limpid::io {
namespace {

struct Half {
  std::uint16_t bits;
};

template <typename T>
T byte_swapped(T value) {
  if constexpr (sizeof(T) == 1) {
    return value;
  } else if constexpr (sizeof(T) == 2) {
    return std::bit_cast<T>(__builtin_bswap16(std::bit_cast<std::uint16_t>(value)));
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(__builtin_bswap32(std::bit_cast<std::uint32_t>(value)));
  } else {
    return std::bit_cast<T>(__builtin_bswap64(std::bit_cast<std::uint64_t>(value)));
  }
}

template <typename T, bool Swap>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return Swap ? byte_swapped(value) : value;
}

template <typename T, bool Swap>
void store(std::byte* bytes, T value) {
  if (Swap) value = byte_swapped(value);
  std::memcpy(bytes, &value, sizeof(T));
}

/// Calls `body` with a value of the C++ type that holds such samples.
template <typename Body>
void with_type(SampleType type, Body body) {
  switch (type) {
    case SampleType::u8:
      return body(std::uint8_t{});
    case SampleType::u16:
      return body(std::uint16_t{});
    case SampleType::u32:
      return body(std::uint32_t{});
    case SampleType::u64:
      return body(std::uint64_t{});
    case SampleType::i16:
      return body(std::int16_t{});
    case SampleType::i32:
      return body(std::int32_t{});
    case SampleType::i64:
      return body(std::int64_t{});
    case SampleType::f16:
      return body(Half{});
    case SampleType::f32:
      return body(float{});
    case SampleType::f64:
      return body(double{});
  }
}

template <typename T, bool Swap>
void decode_as(const std::byte* bytes, const Decoding& how, std::span<float> values) {
  const std::size_t step = how.stride * sizeof(T);
  const bool plain = how.scale == 1.0 && how.offset == 0.0;
  const auto as_number = [](T stored) {
    if constexpr (std::is_same_v<T, Half>) {
      return half_to_float(stored.bits);
    } else {
      return stored;
    }
  };
  if (plain && step == sizeof(T)) {  // the common case, simple enough to be vectorised
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(as_number(load<T, Swap>(bytes + i * sizeof(T))));
    }
  } else if (plain) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(as_number(load<T, Swap>(bytes + i * step)));
    }
  } else {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double stored = static_cast<double>(as_number(load<T, Swap>(bytes + i * step)));
      values[i] = static_cast<float>(how.offset + how.scale * stored);
    }
  }
  if constexpr (std::is_integral_v<T>) {
    if (!how.blank) return;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const T stored = load<T, Swap>(bytes + i * step);
      if (std::in_range<std::int64_t>(stored) && static_cast<std::int64_t>(stored) == *how.blank) {
        values[i] = std::numeric_limits<float>::quiet_NaN();
      }
    }
  }
}

template <typename T>
T rounded_into_range(double value, std::optional<std::int64_t> blank) {
  // The largest double that T can hold: 2^63 - 1 and 2^64 - 1 themselves are not doubles.
  constexpr double highest = sizeof(T) == 8
                                 ? static_cast<double>(std::numeric_limits<T>::max() / 2 + 1) * 2 -
                                       (std::is_signed_v<T> ? 1024.0 : 2048.0)
                                 : static_cast<double>(std::numeric_limits<T>::max());
  double lowest = static_cast<double>(std::numeric_limits<T>::min());
  if (std::isnan(value)) return blank ? static_cast<T>(*blank) : T{0};
  if (blank) lowest += 1.0;  // the blank is the lowest value of the type
  return static_cast<T>(std::clamp(std::nearbyint(value), lowest, highest));
}

template <typename T, bool Swap>
void encode_as(std::span<const float> pixels, const Encoding& how, std::byte* bytes) {
  const std::size_t step = how.stride * sizeof(T);
  if constexpr (std::is_same_v<T, float>) {
    if (how.scale == 1.0 && how.offset == 0.0 && how.stride == 1) {
      for (std::size_t i = 0; i < pixels.size(); ++i) {
        store<T, Swap>(bytes + i * sizeof(T), pixels[i]);
      }
      return;
    }
  }
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    const double value = how.offset + how.scale * static_cast<double>(pixels[i]);
    if constexpr (std::is_same_v<T, Half>) {
      store<std::uint16_t, Swap>(bytes + i * step, float_to_half(static_cast<float>(value)));
    } else if constexpr (std::is_integral_v<T>) {
      store<T, Swap>(bytes + i * step, rounded_into_range<T>(value, how.blank));
    } else {
      store<T, Swap>(bytes + i * step, static_cast<T>(value));
    }
  }
}

}  // namespace

std::size_t sample_bytes(SampleType type) {
  std::size_t bytes = 0;
  with_type(type, [&](auto value) { bytes = sizeof(value); });
  return bytes;
}

bool is_float(SampleType type) {
  return type == SampleType::f16 || type == SampleType::f32 || type == SampleType::f64;
}

bool has_natural_white(SampleType type) {
  return type == SampleType::u8 || type == SampleType::u16 || type == SampleType::i16 ||
         type == SampleType::u32 || type == SampleType::u64;
}

double sample_max(SampleType type) {
  double result = 1.0;
  with_type(type, [&](auto value) {
    if constexpr (std::is_integral_v<decltype(value)>) {
      result = static_cast<double>(std::numeric_limits<decltype(value)>::max());
    }
  });
  return result;
}

double sample_min(SampleType type) {
  double result = 0.0;
  with_type(type, [&](auto value) {
    if constexpr (std::is_integral_v<decltype(value)>) {
      result = static_cast<double>(std::numeric_limits<decltype(value)>::min());
    }
  });
  return result;
}

void decode(std::span<const std::byte> bytes, const Decoding& how, std::span<float> values) {
  assert(values.empty() ||
         bytes.size() >= ((values.size() - 1) * how.stride + 1) * sample_bytes(how.type));
  const bool swap = how.big_endian != (std::endian::native == std::endian::big);
  with_type(how.type, [&](auto value) {
    using T = decltype(value);
    swap ? decode_as<T, true>(bytes.data(), how, values)
         : decode_as<T, false>(bytes.data(), how, values);
  });
}

void encode(std::span<const float> pixels, const Encoding& how, std::span<std::byte> bytes) {
  assert(pixels.empty() ||
         bytes.size() >= ((pixels.size() - 1) * how.stride + 1) * sample_bytes(how.type));
  const bool swap = how.big_endian != (std::endian::native == std::endian::big);
  with_type(how.type, [&](auto value) {
    using T = decltype(value);
    swap ? encode_as<T, true>(pixels, how, bytes.data())
         : encode_as<T, false>(pixels, how, bytes.data());
  });
}

float largest_finite(std::span<const float> values) {
  FloatLanes largest{};
  for_eights(values, 0, [&](FloatLanes some) {  // comparisons are false for NaN
    const FloatLanes finite = some <= std::numeric_limits<float>::max() ? some : FloatLanes{};
    largest = finite > largest ? finite : largest;
  });
  float result = 0;
  for (int lane = 0; lane < float_lane_count; ++lane) result = std::max(result, largest[lane]);
  return result;
}

double scale_for_largest(double largest) {
  struct Range {
    double scale, largest;
  };
  // Twice 255 only: above that a twelve-bit camera is more likely than a frame of eight bits.
  constexpr std::array ranges{Range{1.0, 16.0}, Range{256.0, 2.0 * 256.0},
                              Range{65536.0, 16.0 * 65536.0}};
  const auto range = std::ranges::find_if(ranges, [&](Range r) { return largest <= r.largest; });
  double scale = range == ranges.end() ? 4294967296.0 : range->scale;
  // Fluxes in janskys and the like: nobody's [0,1].
  constexpr double tiny = 1.0 / 65536.0;
  if (largest > 0.0 && largest < tiny) {
    while (largest <= scale / 256.0) scale /= 256.0;
  }
  return scale;
}

float half_to_float(std::uint16_t half) {
  const int exponent = (half >> 10) & 0x1f;
  const float fraction = static_cast<float>(half & 0x3ff);
  float magnitude = 0.0F;
  if (exponent == 0) {
    magnitude = std::ldexp(fraction, -24);
  } else if (exponent == 31) {
    magnitude = fraction == 0.0F ? std::numeric_limits<float>::infinity()
                                 : std::numeric_limits<float>::quiet_NaN();
  } else {
    magnitude = std::ldexp(fraction + 1024.0F, exponent - 25);
  }
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

std::uint16_t float_to_half(float value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00);
  const double magnitude = std::abs(static_cast<double>(value));
  // 65520 is half-way between the largest binary16 number and the next power of two.
  if (magnitude >= 65520.0) return static_cast<std::uint16_t>(sign | 0x7c00);
  if (magnitude == 0.0) return sign;
  const int exponent = std::max(std::ilogb(magnitude), -14);
  // nearbyint rounds half to even, as IEEE 754 asks; a carry runs into the exponent by itself.
  const auto fraction = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  const int bits = fraction < 1024 ? fraction : fraction - 1024 + ((exponent + 15) << 10);
  return static_cast<std::uint16_t>(sign | bits);
}

}  // namespace limpid::io
