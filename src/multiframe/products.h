// Products of spectra, eight floats at a time.
#pragma once

#include <complex>
#include <span>

namespace limpid::multiframe {

/// product = a b.
void multiply(std::span<const std::complex<float>> a, std::span<const std::complex<float>> b,
              std::span<std::complex<float>> product);

/// first_sum += first conj(kernel), second_sum += second conj(kernel).
void add_correlations(std::span<const std::complex<float>> first,
                      std::span<const std::complex<float>> second,
                      std::span<const std::complex<float>> kernel,
                      std::span<std::complex<float>> first_sum,
                      std::span<std::complex<float>> second_sum);

}  // namespace limpid::multiframe
