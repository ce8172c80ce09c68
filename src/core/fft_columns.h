// Half spectra that lie column by column: what many planes of one tile are made of at little cost.
#pragma once

#include <complex>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include <limpid/image.h>

#include "core/fft_lines.h"

namespace limpid {

/// As Spectrum, but with each column in one piece: shape (channels, width / 2 + 1, height).
class ColumnSpectrum {
 public:
  /// Of an image of `size`. Values are not set. Throws Error(exhausted).
  ColumnSpectrum(int channels, Size size);

  [[nodiscard]] int channels() const { return static_cast<int>(planes_.size()); }
  /// Of the image, in pixels.
  [[nodiscard]] Size size() const { return size_; }
  [[nodiscard]] int columns() const { return size_.width / 2 + 1; }
  /// All vertical frequencies of the horizontal frequency kx.
  [[nodiscard]] std::span<std::complex<float>> column(int channel, int kx) {
    return plane(channel).line(kx);
  }
  [[nodiscard]] std::span<const std::complex<float>> column(int channel, int kx) const {
    return plane(channel).line(kx);
  }
  /// All columns of one channel.
  [[nodiscard]] ComplexLines& plane(int channel) {
    return planes_[static_cast<std::size_t>(channel)];
  }
  [[nodiscard]] const ComplexLines& plane(int channel) const {
    return planes_[static_cast<std::size_t>(channel)];
  }
  /// Memory of one channel of an image of `size`.
  static std::size_t bytes(Size size) {
    return ComplexLines::bytes(size.width / 2 + 1, size.height);
  }

 private:
  Size size_;
  std::vector<ComplexLines> planes_;
};

/// What fft() gives, channel by channel.
ColumnSpectrum column_fft(ConstView image, int threads = 1);

/// What transfer() gives.
ColumnSpectrum column_transfer(std::span<const Image> kernels, Size size, int threads = 1);

/// Sets one column of one half spectrum.
using FillColumn = std::function<void(int channel, int kx, std::span<std::complex<float>> column)>;

struct FromColumnsOptions {
  int threads = 1;
  /// Of each channel, how many columns are filled, the first ones: the others are zero. Empty: all.
  std::span<const int> filled = {};
  /// Channels c, c + sources, c + 2 sources ... are made side by side, each column of all of them
  /// before the next, so that what they are all made of is read once. 0: one after another.
  int sources = 0;
};

/// `part` of the images whose half spectra `fill` makes, column by column; these are never held as
/// a whole. The division by the number of pixels is included. `fill` is called for each column
/// once, from several threads.
Image image_from_columns(int channels, Size size, Rect part, const FillColumn& fill,
                         const FromColumnsOptions& options = {});

/// Takes rows `first` ... of a part of all channels: an even number of rows, but for the last.
using UseRows = std::function<void(int first, ConstView rows)>;

/// The same where the images themselves are never held as a whole. All channels are made side by
/// side: each column of all of them before the next, then each row. `filled`: as above.
void rows_from_columns(int channels, Size size, Rect part, const FillColumn& fill,
                       const UseRows& use, std::span<const int> filled = {});

}  // namespace limpid
