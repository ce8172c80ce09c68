#include "multiframe/products.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace limpid::multiframe {
namespace {

using Complex = std::complex<float>;

std::vector<Complex> drawn(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<Complex> values(count);
  for (Complex& value : values) value = {normal(random), normal(random)};
  return values;
}

// a length that is no multiple of the lanes; values are of order one, rounded to 6e-8 a few times
constexpr std::size_t count = 23;
constexpr float rounding = 4e-6F;

TEST(Products, OfAPairAreThoseOfComplexNumbers) {
  const auto a = drawn(count, 1), b = drawn(count, 2), c = drawn(count, 3), d = drawn(count, 4);
  std::vector<Complex> sum(count), mirrored(count);
  multiply_pair(a, b, c, d, sum, mirrored);
  const Complex i(0, 1);
  for (std::size_t k = 0; k < count; ++k) {
    const Complex first = a[k] * b[k], second = c[k] * d[k];
    EXPECT_LT(std::abs(sum[k] - (first + i * second)), rounding);
    EXPECT_LT(std::abs(mirrored[k] - (std::conj(first) + i * std::conj(second))), rounding);
  }
}

TEST(Products, AreAddedWithTheKernelAsItIsOrConjugated) {
  const auto a = drawn(count, 1), k = drawn(count, 3), start = drawn(count, 4);
  std::vector<Complex> straight = start, conjugated = start;
  add_product<false>(a, k, straight);
  add_product<true>(a, k, conjugated);
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_LT(std::abs(straight[i] - (start[i] + a[i] * k[i])), rounding);
    EXPECT_LT(std::abs(conjugated[i] - (start[i] + a[i] * std::conj(k[i]))), rounding);
  }
}

}  // namespace
}  // namespace limpid::multiframe
