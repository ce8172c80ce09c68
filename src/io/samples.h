// How samples lie in files: their sizes and ranges, and the way to and from float pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <limpid/io.h>

namespace limpid::io {

std::size_t sample_bytes(SampleType type);
bool is_float(SampleType type);
/// Whether this integer type maps its own largest value to 1 (see Metadata::scale).
bool has_natural_white(SampleType type);
/// Largest value of an integer type; 1 for floats.
double sample_max(SampleType type);
/// Smallest value of an integer type; 0 for floats.
double sample_min(SampleType type);

/// value = offset + scale * stored; `blank` is the stored integer that means "no data".
struct Decoding {
  SampleType type = SampleType::f32;
  bool big_endian = false;
  std::size_t stride = 1;  ///< samples from one value of the row to the next
  double scale = 1.0, offset = 0.0;
  std::optional<std::int64_t> blank = {};
};
/// `bytes` holds at least (values.size() - 1) * stride + 1 samples.
void decode(std::span<const std::byte> bytes, const Decoding& how, std::span<float> values);

/// stored = (offset + scale * pixel - file_offset), rounded and kept in the range of integer types.
struct Encoding {
  SampleType type = SampleType::f32;
  bool big_endian = false;
  std::size_t stride = 1;
  double scale = 1.0, offset = 0.0;
  /// Stored instead of NaN; valid values then stay above it. Without it NaN becomes zero.
  std::optional<std::int64_t> blank = {};
};
void encode(std::span<const float> pixels, const Encoding& how, std::span<std::byte> bytes);

/// Largest finite value, or zero when there is none above it.
float largest_finite(std::span<const float> values);

/// The divisor that brings float samples with this largest value to about [0,1]: 1, 2^8, 2^16 or
/// 2^32, and 2^-8, 2^-16, ... for frames that are tiny as a whole. Powers of two, so that dividing
/// and multiplying back keeps every bit. Up to sixteen times the ranges of 1 and 2^16 is accepted: a
/// clipped star that sharpening completes rises to several times the clipping.
double scale_for_largest(double largest);

/// IEEE 754 binary16.
float half_to_float(std::uint16_t half);
std::uint16_t float_to_half(float value);

}  // namespace limpid::io
