#include "multiframe/products.h"

#include <cstddef>
#include <cstring>

namespace limpid::multiframe {
namespace {

using Complex = std::complex<float>;

/// Four complex values. Written out: std::complex checks for infinities, and what the compiler
/// makes of a loop over real and imaginary parts is three times as many instructions.
constexpr std::size_t lanes = 4;
using Vector = float __attribute__((vector_size(lanes * sizeof(Complex))));

Vector load(const Complex* from) {
  Vector values;
  std::memcpy(&values, from, sizeof values);
  return values;
}
void store(Complex* to, Vector values) {
  std::memcpy(static_cast<void*>(to), &values, sizeof values);
}

Vector reals(Vector v) { return __builtin_shufflevector(v, v, 0, 0, 2, 2, 4, 4, 6, 6); }
Vector imaginaries(Vector v) { return __builtin_shufflevector(v, v, 1, 1, 3, 3, 5, 5, 7, 7); }
Vector swapped(Vector v) { return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6); }

constexpr Vector plus_minus{1, -1, 1, -1, 1, -1, 1, -1};

/// Calls `four` for places four apart and `one` for the rest, at the end.
template <typename Four, typename One>
void for_all(std::size_t count, Four four, One one) {
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) four(i);
  for (; i < count; ++i) one(i);
}

Complex product_of(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

}  // namespace

void multiply(std::span<const Complex> a, std::span<const Complex> b, std::span<Complex> product) {
  for_all(
      product.size(),
      [&](std::size_t i) {
        const Vector p = load(&a[i]), q = load(&b[i]);
        store(&product[i], p * reals(q) - swapped(p) * (imaginaries(q) * plus_minus));
      },
      [&](std::size_t i) { product[i] = product_of(a[i], b[i]); });
}

void add_correlations(std::span<const Complex> first, std::span<const Complex> second,
                      std::span<const Complex> kernel, std::span<Complex> first_sum,
                      std::span<Complex> second_sum) {
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
