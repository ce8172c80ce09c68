// Products of spectra, eight floats at a time. Here and not in a file of their own, since they are
// called for a few columns of each row.
#pragma once

#include <complex>
#include <cstddef>
#include <span>

#include "core/complex_lanes.h"

namespace limpid::multiframe {
namespace products {

using Complex = std::complex<float>;

inline constexpr std::size_t lanes = complex_lane_count;
using Vector = FloatLanes;

inline Vector reals(Vector v) { return __builtin_shufflevector(v, v, 0, 0, 2, 2, 4, 4, 6, 6); }
inline Vector imaginaries(Vector v) {
  return __builtin_shufflevector(v, v, 1, 1, 3, 3, 5, 5, 7, 7);
}

/// Calls `four` for places four apart and `one` for the rest, at the end.
template <typename Four, typename One>
[[gnu::always_inline]] inline void for_all(std::size_t count, Four four, One one) {
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) four(i);
  for (; i < count; ++i) one(i);
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
    return p * reals(q) - parts_swapped(p) * (imaginaries(q) * plus_minus);
  };
  for_all(
      sum.size(),
      [&](std::size_t i) {
        const Vector first = product(load_lanes(&a[i]), load_lanes(&b[i]));
        const Vector second = parts_swapped(product(load_lanes(&c[i]), load_lanes(&d[i])));
        store_lanes(&sum[i], first - second * plus_minus);
        store_lanes(&mirrored[i], first * plus_minus + second);
      },
      [&](std::size_t i) {
        const Complex first = a[i] * b[i], second = c[i] * d[i];
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
        const Vector k = load_lanes(&kernel[i]), p = load_lanes(&a[i]);
        const Vector cross = parts_swapped(p) * (imaginaries(k) * plus_minus);
        const Vector straight = load_lanes(&sum[i]) + p * reals(k);
        store_lanes(&sum[i], conjugated ? straight + cross : straight - cross);
      },
      [&](std::size_t i) { sum[i] += a[i] * (conjugated ? std::conj(kernel[i]) : kernel[i]); });
}

}  // namespace limpid::multiframe
