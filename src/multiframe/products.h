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

/// The product a b of half spectra and that of another two, c d, as one column of the transform of
/// two real fields, the first of them times one plus the second times i: `sum` = a b + i c d, and
/// what lies at the frequencies mirrored in both directions, `mirrored`, conj(a b) + i conj(c d).
inline void multiply_pair(std::span<const std::complex<float>> a,
                          std::span<const std::complex<float>> b,
                          std::span<const std::complex<float>> c,
                          std::span<const std::complex<float>> d,
                          std::span<std::complex<float>> sum,
                          std::span<std::complex<float>> mirrored) {
  using namespace products;
  const auto product = [](Vector p, Vector q) {
    return p * reals(q) - swapped(p) * (imaginaries(q) * plus_minus);
  };
  for_all(
      sum.size(),
      [&](std::size_t i) {
        const Vector first = product(load(&a[i]), load(&b[i]));
        const Vector second = swapped(product(load(&c[i]), load(&d[i])));
        store(&sum[i], first - second * plus_minus);
        store(&mirrored[i], first * plus_minus + second);
      },
      [&](std::size_t i) {
        const Complex first = product_of(a[i], b[i]), second = product_of(c[i], d[i]);
        sum[i] = {first.real() - second.imag(), first.imag() + second.real()};
        mirrored[i] = {first.real() + second.imag(), second.real() - first.imag()};
      });
}

/// sum += a kernel, or a conj(kernel).
template <bool conjugated>
void add_product(std::span<const std::complex<float>> a,
                 std::span<const std::complex<float>> kernel, std::span<std::complex<float>> sum) {
  using namespace products;
  for_all(
      sum.size(),
      [&](std::size_t i) {
        const Vector k = load(&kernel[i]), p = load(&a[i]);
        const Vector cross = swapped(p) * (imaginaries(k) * plus_minus);
        const Vector straight = load(&sum[i]) + p * reals(k);
        store(&sum[i], conjugated ? straight + cross : straight - cross);
      },
      [&](std::size_t i) {
        sum[i] += product_of(a[i], conjugated ? std::conj(kernel[i]) : kernel[i]);
      });
}

}  // namespace limpid::multiframe
