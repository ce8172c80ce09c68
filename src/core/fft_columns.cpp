#include "core/fft_columns.h"

#include <algorithm>

#include "core/fft_plans.h"
#include "core/parallel.h"

namespace limpid {
namespace {

using Complex = std::complex<float>;

constexpr std::size_t line_values = 64 / sizeof(Complex);  // of a cache line
constexpr int block = static_cast<int>(line_values);       // columns that are moved together

/// Both transforms of one line, in place.
const Plans& plans_for(int length) {
  static PlanStore<int> store;
  return store.find(length, [&] {
    const SpectrumMemory memory = allocate_spectrum(static_cast<std::size_t>(length), {length, 1});
    fftwf_complex* values = as_fftw(memory.get());
    return Plans{Plan(fftwf_plan_dft_1d(length, values, values, FFTW_FORWARD, FFTW_ESTIMATE)),
                 Plan(fftwf_plan_dft_1d(length, values, values, FFTW_BACKWARD, FFTW_ESTIMATE))};
  });
}

/// Half spectra of two real rows from the transform of a + i b: A(k) = (Z(k) + conj Z(-k)) / 2,
/// B(k) = (Z(k) - conj Z(-k)) / 2i.
void split(const Complex* z, int width, Complex* a, Complex* b) {
  for (int k = 0; k <= width / 2; ++k) {
    const Complex there = z[k], back = z[k == 0 ? 0 : width - k];
    a[k] = {0.5F * (there.real() + back.real()), 0.5F * (there.imag() - back.imag())};
    b[k] = {0.5F * (there.imag() + back.imag()), 0.5F * (back.real() - there.real())};
  }
}

/// The spectrum of a + i b from the half spectra of the real rows a and b. Where these are their
/// own mirror they are real.
void join(const Complex* a, const Complex* b, int width, Complex* z) {
  z[0] = {a[0].real(), b[0].real()};
  for (int k = 1; k < (width + 1) / 2; ++k) {
    z[k] = {a[k].real() - b[k].imag(), a[k].imag() + b[k].real()};
    z[width - k] = {a[k].real() + b[k].imag(), b[k].real() - a[k].imag()};
  }
  if (width % 2 == 0) z[width / 2] = {a[width / 2].real(), b[width / 2].real()};
}

/// Rows of half spectra into columns: column kx of `to` gets value kx of every row, at `place_of`.
template <typename PlaceOf>
void turn(const Complex* rows, std::size_t stride, int count, ColumnSpectrum& to, int channel,
          const PlaceOf& place_of) {
  for (int first = 0; first < to.columns(); first += block) {
    const int columns = std::min(block, to.columns() - first);
    for (int y = 0; y < count; ++y) {
      const Complex* row = rows + static_cast<std::size_t>(y) * stride + first;
      const auto place = static_cast<std::size_t>(place_of(y));
      for (int i = 0; i < columns; ++i) to.column(channel, first + i)[place] = row[i];
    }
  }
}

/// Half spectra of the rows that `row_of(y)` points to.
template <typename RowOf>
SpectrumMemory transform_rows(int count, int width, const RowOf& row_of) {
  const std::size_t stride = filled_line(width / 2 + 1);
  // one row more than there may be: a last row without a second one
  SpectrumMemory rows =
      allocate_spectrum(stride * static_cast<std::size_t>(count + 1), {width, count});
  const SpectrumMemory z = allocate_spectrum(static_cast<std::size_t>(width), {width, 1});
  const Plans& plans = plans_for(width);
  for (int y = 0; y < count; y += 2) {
    const float* first = row_of(y);
    const float* second = y + 1 < count ? row_of(y + 1) : nullptr;
    for (int x = 0; x < width; ++x) z.get()[x] = {first[x], second != nullptr ? second[x] : 0.0F};
    fftwf_execute_dft(plans.forward.get(), as_fftw(z.get()), as_fftw(z.get()));
    Complex* a = rows.get() + static_cast<std::size_t>(y) * stride;
    split(z.get(), width, a, a + stride);
  }
  return rows;
}

void transform_columns(ColumnSpectrum& spectrum, int channel) {
  const Plans& plans = plans_for(spectrum.size().height);
  for (int kx = 0; kx < spectrum.columns(); ++kx) {
    fftwf_complex* values = as_fftw(spectrum.column(channel, kx).data());
    fftwf_execute_dft(plans.forward.get(), values, values);
  }
}

/// The rows of `part` of one plane, each after the inverse transform of its columns.
SpectrumMemory columns_to_rows(int channel, Size size, Rect part, const FillColumn& fill) {
  const int columns = size.width / 2 + 1;
  const std::size_t stride = filled_line(columns), own = filled_line(size.height);
  SpectrumMemory rows = allocate_spectrum(stride * static_cast<std::size_t>(part.height + 1), size);
  const SpectrumMemory some = allocate_spectrum(own * block, size);
  const Plans& plans = plans_for(size.height);
  for (int first = 0; first < columns; first += block) {
    const int count = std::min(block, columns - first);
    for (int i = 0; i < count; ++i) {
      Complex* column = some.get() + static_cast<std::size_t>(i) * own;
      fill(channel, first + i, {column, static_cast<std::size_t>(size.height)});
      fftwf_execute_dft(plans.inverse.get(), as_fftw(column), as_fftw(column));
    }
    for (int y = 0; y < part.height; ++y) {
      Complex* row = rows.get() + static_cast<std::size_t>(y) * stride + first;
      const Complex* from = some.get() + part.y + y;
      for (int i = 0; i < count; ++i) row[i] = from[static_cast<std::size_t>(i) * own];
    }
  }
  return rows;
}

}  // namespace

ColumnSpectrum::ColumnSpectrum(int channels, Size size)
    : channels_(channels),
      size_(size),
      stride_(spread_line(size.height)),
      values_(allocate_spectrum(
          static_cast<std::size_t>(channels) * static_cast<std::size_t>(columns()) * stride_,
          size)) {}

ColumnSpectrum column_fft(ConstView image, int threads) {
  ColumnSpectrum spectrum(image.channels(), image.size());
  if (image.empty()) return spectrum;
  const int width = image.width(), height = image.height();
  parallel_for(image.channels(), threads, [&](int channel) {
    const ConstView plane = image.channel(channel);
    const SpectrumMemory rows =
        transform_rows(height, width, [&](int y) { return plane.row(0, y).data(); });
    turn(rows.get(), filled_line(width / 2 + 1), height, spectrum, channel,
         [](int y) { return y; });
    transform_columns(spectrum, channel);
  });
  return spectrum;
}

ColumnSpectrum column_transfer(std::span<const Image> kernels, Size size, int threads) {
  ColumnSpectrum spectrum(static_cast<int>(kernels.size()), size);
  parallel_for(spectrum.channels(), threads, [&](int channel) {
    const ConstView kernel = kernels[static_cast<std::size_t>(channel)].view();
    const int side = kernel.width();
    // the rows of the frame that hold nothing are not transformed
    Image laid(1, {size.width, side});
    for (int y = 0; y < side; ++y) {
      const auto row = laid.view().row(0, y);
      for (int x = 0; x < side; ++x)
        row[static_cast<std::size_t>((x - side / 2 + size.width) % size.width)] = kernel(0, y, x);
    }
    const SpectrumMemory rows =
        transform_rows(side, size.width, [&](int y) { return laid.view().row(0, y).data(); });
    for (int kx = 0; kx < spectrum.columns(); ++kx)
      std::ranges::fill(spectrum.column(channel, kx), Complex());
    turn(rows.get(), filled_line(size.width / 2 + 1), side, spectrum, channel,
         [&](int y) { return (y - side / 2 + size.height) % size.height; });
    transform_columns(spectrum, channel);
  });
  return spectrum;
}

Image image_from_columns(int channels, Size size, Rect part, const FillColumn& fill, int threads) {
  Image image(channels, part.size());
  if (image.empty()) return image;
  const float scale = 1.0F / static_cast<float>(size.pixels());
  parallel_for(channels, threads, [&](int channel) {
    const SpectrumMemory rows = columns_to_rows(channel, size, part, fill);
    const std::size_t stride = filled_line(size.width / 2 + 1);
    const SpectrumMemory z = allocate_spectrum(static_cast<std::size_t>(size.width), size);
    const Plans& plans = plans_for(size.width);
    for (int y = 0; y < part.height; y += 2) {
      Complex* a = rows.get() + static_cast<std::size_t>(y) * stride;
      const bool pair = y + 1 < part.height;
      if (!pair) std::fill_n(a + stride, size.width / 2 + 1, Complex());
      join(a, a + stride, size.width, z.get());
      fftwf_execute_dft(plans.inverse.get(), as_fftw(z.get()), as_fftw(z.get()));
      const auto first = image.view().row(channel, y);
      for (std::size_t x = 0; x < first.size(); ++x)
        first[x] = scale * z.get()[static_cast<std::size_t>(part.x) + x].real();
      if (!pair) continue;
      const auto second = image.view().row(channel, y + 1);
      for (std::size_t x = 0; x < second.size(); ++x)
        second[x] = scale * z.get()[static_cast<std::size_t>(part.x) + x].imag();
    }
  });
  return image;
}

}  // namespace limpid
