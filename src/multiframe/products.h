// Products of spectra, eight floats at a time. Here and not in a file of their own, since they are
// called for a few columns of each row.
#pragma once

#include <complex>
#include <cstddef>
#include <cstring>
#include <span>

namespace limpid::multiframe {
namespace products {

using Complex = std::complex<float>;

/// Four complex values. Written out: std::complex checks for infinities, and what the compiler
/// makes of a loop over real and imaginary parts is three times as many instructions.
inline constexpr std::size_t lanes = 4;
using Vector = float __attribute__((vector_size(lanes * sizeof(Complex))));

inline Vector load(const Complex* from) {
  Vector values;
  std::memcpy(&values, from, sizeof values);
  return values;
}
inline void store(Complex* to, Vector values) {
  std::memcpy(static_cast<void*>(to), &values, sizeof values);
}

inline Vector reals(Vector v) { return __builtin_shufflevector(v, v, 0, 0, 2, 2, 4, 4, 6, 6); }
inline Vector imaginaries(Vector v) {
  return __builtin_shufflevector(v, v, 1, 1, 3, 3, 5, 5, 7, 7);
}
inline Vector swapped(Vector v) { return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6); }

inline constexpr Vector plus_minus{1, -1, 1, -1, 1, -1, 1, -1};

/// Calls `four` for places four apart and `one` for the rest, at the end.
template <typename Four, typename One>
[[gnu::always_inline]] inline void for_all(std::size_t count, Four four, One one) {
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) four(i);
  for (; i < count; ++i) one(i);
}

inline Complex product_of(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

}  // namespace products

/// product = a b.
inline void multiply(std::span<const std::complex<float>> a, std::span<const std::complex<float>> b,
                     std::span<std::complex<float>> product) {
  using namespace products;
  for_all(
      product.size(),
      [&](std::size_t i) {
        const Vector p = load(&a[i]), q = load(&b[i]);
        store(&product[i], p * reals(q) - swapped(p) * (imaginaries(q) * plus_minus));
      },
      [&](std::size_t i) { product[i] = product_of(a[i], b[i]); });
}

/// first_sum += first conj(kernel), second_sum += second conj(kernel).
inline void add_correlations(std::span<const std::complex<float>> first,
                             std::span<const std::complex<float>> second,
                             std::span<const std::complex<float>> kernel,
                             std::span<std::complex<float>> first_sum,
                             std::span<std::complex<float>> second_sum) {
  using namespace products;
  for_all(
      kernel.size(),
      [&](std::size_t i) {
        const Vector k = load(&kernel[i]), a = load(&first[i]), b = load(&second[i]);
        const Vector real = reals(k), imaginary = imaginaries(k) * plus_minus;
        store(&first_sum[i], load(&first_sum[i]) + a * real + swapped(a) * imaginary);
        store(&second_sum[i], load(&second_sum[i]) + b * real + swapped(b) * imaginary);
      },
      [&](std::size_t i) {
        first_sum[i] += product_of(first[i], std::conj(kernel[i]));
        second_sum[i] += product_of(second[i], std::conj(kernel[i]));
      });
}

}  // namespace limpid::multiframe
