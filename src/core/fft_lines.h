// Complex lines and their Fourier transforms: what two-dimensional transforms are made of when
// something else is to happen between their halves.
//
// Two real fields that are the parts of one complex field, a + i b, are transformed at once, which
// FFTW does faster than each of them by itself, and stay apart in all that is linear and real.
#pragma once

#include <complex>
#include <cstddef>
#include <span>

#include "core/spectrum_memory.h"

namespace limpid {

struct Plans;

/// Transforms of lines of one length, from one place to another: in place they take half as long
/// again. Both places begin on a cache line. What is transformed is left as it was.
class LineFft {
 public:
  explicit LineFft(int length);
  void forward(std::span<const std::complex<float>> from, std::span<std::complex<float>> to) const;
  /// Not divided by the length.
  void inverse(std::span<const std::complex<float>> from, std::span<std::complex<float>> to) const;

 private:
  const Plans* plans_;
};

/// Lines of equal length that begin on cache lines and fill them up: what lies behind their values
/// may be read and written. Values are not set.
class ComplexLines {
 public:
  /// Throws Error(exhausted).
  ComplexLines(int count, int length);

  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] int length() const { return length_; }
  [[nodiscard]] std::span<std::complex<float>> line(int i) {
    return {values_.get() + offset(i), static_cast<std::size_t>(length_)};
  }
  [[nodiscard]] std::span<const std::complex<float>> line(int i) const {
    return {values_.get() + offset(i), static_cast<std::size_t>(length_)};
  }
  /// From one line to the next.
  [[nodiscard]] std::size_t stride() const { return stride_; }
  void clear();
  static std::size_t bytes(int count, int length) {
    return sizeof(std::complex<float>) * spread_line(length) * static_cast<std::size_t>(count);
  }

 private:
  [[nodiscard]] std::size_t offset(int i) const { return static_cast<std::size_t>(i) * stride_; }

  int count_, length_;
  std::size_t stride_;
  SpectrumMemory values_;
};

/// Columns into rows: value first + i of every line of `columns` goes into line i of `rows`.
void turn(const ComplexLines& columns, int first, int count, ComplexLines& rows);
/// Rows into columns: undoes turn().
void turn_back(const ComplexLines& rows, int first, int count, ComplexLines& columns);

}  // namespace limpid
