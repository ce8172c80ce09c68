#include "samples.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace limpid::io {
namespace {

using enum SampleType;
constexpr std::array all_types{u8, u16, u32, u64, i16, i32, i64, f16, f32, f64};

TEST(Samples, WhatIsEncodedIsDecodedInEveryTypeAndByteOrder) {
  const std::vector<float> pixels{0.0F, 1.0F, 2.0F, 100.0F, 127.0F};
  for (const SampleType type : all_types) {
    for (const bool big_endian : {false, true}) {
      std::vector<std::byte> bytes(pixels.size() * sample_bytes(type));
      std::vector<float> back(pixels.size());
      encode(pixels, {.type = type, .big_endian = big_endian}, bytes);
      decode(bytes, {.type = type, .big_endian = big_endian}, back);
      EXPECT_EQ(back, pixels) << static_cast<int>(type) << big_endian;
    }
  }
}

TEST(Samples, BigEndianStartsWithTheHighByte) {
  std::array<std::byte, 2> bytes{};
  encode(std::array{258.0F}, {.type = u16, .big_endian = true}, bytes);
  EXPECT_EQ(bytes[0], std::byte{1});
  EXPECT_EQ(bytes[1], std::byte{2});
}

TEST(Samples, StrideSkipsTheOtherChannels) {
  const std::array<std::byte, 5> bytes{std::byte{1}, std::byte{9}, std::byte{2}, std::byte{9},
                                       std::byte{3}};
  std::vector<float> values(3);
  decode(bytes, {.type = u8, .stride = 2}, values);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3}));
}

TEST(Samples, IntegersAreRoundedAndKeptInRange) {
  std::array<std::byte, 4> bytes{};
  encode(std::array{-1.0F, 0.5F, 2.0F, std::numeric_limits<float>::quiet_NaN()},
         {.type = u8, .scale = 255.0}, bytes);
  EXPECT_EQ(bytes, (std::array{std::byte{0}, std::byte{128}, std::byte{255}, std::byte{0}}));
}

TEST(Samples, ExtremesOfEveryIntegerTypeAreReached) {
  for (const SampleType type : {u8, u16, u32, u64, i16, i32, i64}) {
    std::vector<std::byte> bytes(2 * sample_bytes(type));
    std::vector<float> back(2);
    encode(std::array{-1e30F, 1e30F}, {.type = type}, bytes);
    decode(bytes, {.type = type}, back);
    EXPECT_FLOAT_EQ(back[0], static_cast<float>(sample_min(type)));
    EXPECT_FLOAT_EQ(back[1], static_cast<float>(sample_max(type)));
  }
}

TEST(Samples, BlankStandsForNoDataAndForNothingElse) {
  const std::vector<float> pixels{-1e9F, 5.0F, std::numeric_limits<float>::quiet_NaN()};
  std::vector<std::byte> bytes(6);
  std::vector<float> back(3);
  encode(pixels, {.type = i16, .blank = -32768}, bytes);
  decode(bytes, {.type = i16, .blank = -32768}, back);
  EXPECT_EQ(back[0], -32767.0F);
  EXPECT_EQ(back[1], 5.0F);
  EXPECT_TRUE(std::isnan(back[2]));
}

TEST(Samples, EveryBinary16NumberSurvives) {
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value))));
    } else {
      EXPECT_EQ(float_to_half(value), half);
    }
  }
}

TEST(Samples, Binary16RoundsToTheNearestEvenNumber) {
  EXPECT_EQ(half_to_float(float_to_half(2049.0F)), 2048.0F);  // spacing is 2 there
  EXPECT_EQ(half_to_float(float_to_half(2051.0F)), 2052.0F);
  EXPECT_EQ(half_to_float(float_to_half(65519.0F)), 65504.0F);
  EXPECT_TRUE(std::isinf(half_to_float(float_to_half(65520.0F))));
  EXPECT_EQ(float_to_half(std::ldexp(1.0F, -26)), 0);
}

TEST(Samples, ScaleOfFloatsIsAPowerOfTwoThatToleratesOvershoot) {
  EXPECT_EQ(scale_for_largest(0.0), 1.0);
  EXPECT_EQ(scale_for_largest(1.3), 1.0);
  EXPECT_EQ(scale_for_largest(2.2), 1.0) << "a restored star";
  EXPECT_EQ(scale_for_largest(255.0), 256.0);
  EXPECT_EQ(scale_for_largest(65535.0), 65536.0);
  EXPECT_EQ(scale_for_largest(3500.0), 65536.0) << "twelve bits";
  EXPECT_EQ(scale_for_largest(107850.0), 65536.0);
  EXPECT_EQ(scale_for_largest(2.2 * 65535.0), 65536.0) << "a restored star";
  EXPECT_EQ(scale_for_largest(4294967295.0), 4294967296.0);
  EXPECT_EQ(scale_for_largest(1e30), 4294967296.0);
  const double tiny = scale_for_largest(3e-12);
  EXPECT_GE(3e-12 / tiny, 1.0 / 256.0);
  EXPECT_LE(3e-12 / tiny, 1.0);
}

TEST(Samples, LargestFiniteIgnoresInfinityAndNaN) {
  EXPECT_EQ(largest_finite(std::array{1.0F, std::numeric_limits<float>::infinity(), 3.0F,
                                      std::numeric_limits<float>::quiet_NaN()}),
            3.0F);
  EXPECT_EQ(largest_finite(std::array{-1.0F}), 0.0F);
}

}  // namespace
}  // namespace limpid::io
