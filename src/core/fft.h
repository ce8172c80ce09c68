// Real two-dimensional Fourier transforms.
#pragma once

#include <complex>
#include <cstddef>
#include <span>

#include <limpid/image.h>

#include "core/spectrum_memory.h"

namespace limpid {

/// Half of the Fourier transform of a real image, shape (channels, height, width / 2 + 1); the
/// other half is its mirrored conjugate. Row ky holds the vertical frequency ky / height cycles per
/// pixel (minus one from the middle on), column kx the horizontal frequency kx / width. Each row
/// begins on a cache line: FFTW takes up to twice as long where rows do not begin on 16 bytes.
class Spectrum {
 public:
  /// Of an image of `size`. Values are not set; what fills up the rows is zero. Throws
  /// Error(exhausted).
  Spectrum(int channels, Size size);

  [[nodiscard]] int channels() const { return channels_; }
  /// Of the image, in pixels.
  [[nodiscard]] Size size() const { return size_; }
  [[nodiscard]] int columns() const { return size_.width / 2 + 1; }
  [[nodiscard]] std::span<std::complex<float>> row(int channel, int ky) {
    return plane(channel).subspan(static_cast<std::size_t>(ky) * stride(),
                                  static_cast<std::size_t>(columns()));
  }
  [[nodiscard]] std::span<const std::complex<float>> row(int channel, int ky) const {
    return plane(channel).subspan(static_cast<std::size_t>(ky) * stride(),
                                  static_cast<std::size_t>(columns()));
  }
  /// From one row to the next.
  [[nodiscard]] std::size_t stride() const { return filled_line(columns()); }
  /// All values of one channel, with what fills up the rows.
  [[nodiscard]] std::span<std::complex<float>> plane(int channel) {
    return {values_.get() + static_cast<std::size_t>(channel) * plane_size(), plane_size()};
  }
  [[nodiscard]] std::span<const std::complex<float>> plane(int channel) const {
    return {values_.get() + static_cast<std::size_t>(channel) * plane_size(), plane_size()};
  }
  /// The memory of row y as the `width` pixels of the image itself: what fft_in_place() starts from
  /// and inverse_fft_in_place() leaves.
  [[nodiscard]] std::span<float> samples(int channel, int y) {
    return {reinterpret_cast<float*>(row(channel, y).data()),
            static_cast<std::size_t>(size_.width)};
  }

 private:
  [[nodiscard]] std::size_t plane_size() const {
    return stride() * static_cast<std::size_t>(size_.height);
  }

  int channels_;
  Size size_;
  SpectrumMemory values_;
};

/// Sum over the pixels of value * exp(-2 pi i (kx x / width + ky y / height)), channel by channel.
/// One NaN makes all of it NaN: fill gaps first.
Spectrum fft(ConstView image, int threads = 1);
/// Undoes fft(), the division by the number of pixels included. Consumes the spectrum, whose memory
/// it works in.
Image inverse_fft(Spectrum spectrum, int threads = 1);

/// The same without a copy, on samples(). The inverse is not divided by the number of pixels.
void fft_in_place(Spectrum& spectrum);
void inverse_fft_in_place(Spectrum& spectrum);

/// fft() of kernels, each (1, side, side) with its centre at (side / 2, side / 2), laid into empty
/// frames of `size` so that the centres lie on pixel (0, 0): what convolution multiplies by.
Spectrum transfer(std::span<const Image> kernels, Size size, int threads = 1);

/// The smallest even length of at least `length` with no prime factor over 7: fast to transform.
int good_fft_length(int length);

}  // namespace limpid
