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
constexpr float rounding = 2e-6F;

TEST(Products, AreThoseOfComplexNumbers) {
  const auto a = drawn(count, 1), b = drawn(count, 2);
  std::vector<Complex> product(count);
  multiply(a, b, product);
  for (std::size_t i = 0; i < count; ++i) EXPECT_LT(std::abs(product[i] - a[i] * b[i]), rounding);
}

TEST(Products, AreAddedWithTheKernelConjugated) {
  const auto a = drawn(count, 1), b = drawn(count, 2), k = drawn(count, 3), start = drawn(count, 4);
  std::vector<Complex> a_sum = start, b_sum = start;
  add_correlations(a, b, k, a_sum, b_sum);
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_LT(std::abs(a_sum[i] - (start[i] + a[i] * std::conj(k[i]))), rounding);
    EXPECT_LT(std::abs(b_sum[i] - (start[i] + b[i] * std::conj(k[i]))), rounding);
  }
}

}  // namespace
}  // namespace limpid::multiframe
