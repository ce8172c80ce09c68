#include "core/fft_columns.h"

#include <algorithm>
#include <vector>

#include "core/complex_lanes.h"
#include "core/parallel.h"

namespace limpid {
namespace {

using Complex = std::complex<float>;

constexpr int block = 16;  // rows that are turned together: they stay in the first-level cache
constexpr std::size_t together = complex_lane_count;

/// Half spectra of two real rows from the transform of a + i b: A(k) = (Z(k) + conj Z(-k)) / 2,
/// B(k) = (Z(k) - conj Z(-k)) / 2i.
void split(const Complex* z, int width, Complex* a, Complex* b) {
  const auto length = static_cast<std::size_t>(width), half = length / 2;
  a[0] = z[0].real();
  b[0] = z[0].imag();
  std::size_t k = 1;
  for (; k + together <= half + 1; k += together) {
    const FloatLanes there = load_lanes(z + k),
                     back = conjugate(reversed(load_lanes(z + length - k - together + 1)));
    store_lanes(a + k, 0.5F * (there + back));
    store_lanes(b + k, conjugate(parts_swapped(0.5F * (there - back))));
  }
  for (; k <= half; ++k) {
    const Complex there = z[k], back = z[length - k];
    a[k] = {0.5F * (there.real() + back.real()), 0.5F * (there.imag() - back.imag())};
    b[k] = {0.5F * (there.imag() + back.imag()), 0.5F * (back.real() - there.real())};
  }
}

/// The spectrum of a + i b from the half spectra of the real rows a and b. Where these are their
/// own mirror they are real.
void join(const Complex* a, const Complex* b, int width, Complex* z) {
  const auto length = static_cast<std::size_t>(width), end = (length + 1) / 2;
  z[0] = {a[0].real(), b[0].real()};
  std::size_t k = 1;
  for (; k + together <= end; k += together) {
    const FloatLanes own = load_lanes(a + k), turned = parts_swapped(load_lanes(b + k));
    store_lanes(z + k, own - conjugate(turned));
    store_lanes(z + length - k - together + 1, reversed(conjugate(own) + turned));
  }
  for (; k < end; ++k) {
    z[k] = {a[k].real() - b[k].imag(), a[k].imag() + b[k].real()};
    z[length - k] = {a[k].real() + b[k].imag(), b[k].real() - a[k].imag()};
  }
  if (length % 2 == 0) z[length / 2] = {a[length / 2].real(), b[length / 2].real()};
}

/// Half spectra of real rows, as many as the columns are long. row_of(y): the first of `width`
/// values.
template <typename RowOf>
void set_rows(int width, const RowOf& row_of, ComplexLines& columns) {
  const int count = columns.length();
  const LineFft line_fft(width);
  const std::vector<float> nothing(static_cast<std::size_t>(width), 0.0F);
  ComplexLines pair(2, width), rows(block, width / 2 + 1);
  for (int begin = 0; begin < count; begin += block) {
    const int some = std::min(block, count - begin);
    for (int y = 0; y < some; y += 2) {
      const float* a = row_of(begin + y);
      const float* b = y + 1 < some ? row_of(begin + y + 1) : nothing.data();
      const auto values = pair.line(0);
      for (std::size_t x = 0; x < values.size(); ++x) values[x] = {a[x], b[x]};
      line_fft.forward(values, pair.line(1));
      split(pair.line(1).data(), width, rows.line(y).data(), rows.line(y + 1).data());
    }
    turn_back(rows, begin, some, columns);
  }
}

/// Two real rows that are the parts of complex values. One after the other: both at once take
/// longer.
void write_parts(const Complex* values, float scale, std::span<float> real,
                 std::span<float> imaginary) {
  const auto* parts = reinterpret_cast<const float*>(values);
  for (std::size_t x = 0; x < real.size(); ++x) real[x] = scale * parts[2 * x];
  for (std::size_t x = 0; x < imaginary.size(); ++x) imaginary[x] = scale * parts[2 * x + 1];
}

void transform(ComplexLines& columns) {
  const LineFft line_fft(columns.length());
  ComplexLines transformed(1, columns.length());
  for (int kx = 0; kx < columns.count(); ++kx) {
    line_fft.forward(columns.line(kx), transformed.line(0));
    std::ranges::copy(transformed.line(0), columns.line(kx).begin());
  }
}

/// One plane on its way from columns to rows.
struct Plane {
  int channel;
  ComplexLines columns;  ///< those that are not zero, after their inverse transform
};

void fill_columns(std::vector<Plane>& planes, Size size, const FillColumn& fill) {
  const LineFft line_fft(size.height);
  ComplexLines filled(1, size.height);
  for (int kx = 0; kx < size.width / 2 + 1; ++kx) {
    for (Plane& plane : planes) {
      if (kx >= plane.columns.count()) continue;
      fill(plane.channel, kx, filled.line(0));
      line_fft.inverse(filled.line(0), plane.columns.line(kx));
    }
  }
}

/// Makes rows of a part of one plane.
class RowMaker {
 public:
  RowMaker(const ComplexLines& columns, Size size, Rect part)
      : columns_(&columns),
        part_(part),
        width_(size.width),
        scale_(1.0F / static_cast<float>(size.pixels())),
        line_fft_(size.width),
        pair_(2, size.width),
        rows_(block, size.width / 2 + 1) {
    if (columns.count() < rows_.length()) rows_.clear();
  }
  /// Row `begin` and those behind it, as many as `out` has, at most a block.
  void write(int begin, ImageView<float> out) {
    turn(*columns_, part_.y + begin, out.height(), rows_);
    for (int y = 0; y < out.height(); y += 2) {
      const bool single = y + 1 == out.height();
      if (single) std::ranges::fill(rows_.line(y + 1), Complex());
      join(rows_.line(y).data(), rows_.line(y + 1).data(), width_, pair_.line(0).data());
      line_fft_.inverse(pair_.line(0), pair_.line(1));
      write_parts(pair_.line(1).data() + part_.x, scale_, out.row(0, y),
                  single ? std::span<float>() : out.row(0, y + 1));
    }
  }

 private:
  const ComplexLines* columns_;
  Rect part_;
  int width_;
  float scale_;
  LineFft line_fft_;
  ComplexLines pair_, rows_;
};

/// Calls work(begin, count) for all blocks of rows.
template <typename Work>
void for_blocks(int height, const Work& work) {
  for (int begin = 0; begin < height; begin += block) work(begin, std::min(block, height - begin));
}

/// Planes first, first + step ... on their way.
std::vector<Plane> planes_of(int channels, int first, int step, Size size,
                             std::span<const int> filled) {
  std::vector<Plane> planes;
  for (int channel = first; channel < channels; channel += step) {
    const int count =
        filled.empty() ? size.width / 2 + 1 : filled[static_cast<std::size_t>(channel)];
    planes.push_back({channel, ComplexLines(count, size.height)});
  }
  return planes;
}

}  // namespace

ColumnSpectrum::ColumnSpectrum(int channels, Size size) : size_(size) {
  for (int channel = 0; channel < channels; ++channel) planes_.emplace_back(columns(), size.height);
}

ColumnSpectrum column_fft(ConstView image, int threads) {
  ColumnSpectrum spectrum(image.channels(), image.size());
  if (image.empty()) return spectrum;
  parallel_for(image.channels(), threads, [&](int channel) {
    set_rows(
        image.width(), [&](int y) { return image.row(channel, y).data(); },
        spectrum.plane(channel));
    transform(spectrum.plane(channel));
  });
  return spectrum;
}

ColumnSpectrum column_transfer(std::span<const Image> kernels, Size size, int threads) {
  ColumnSpectrum spectrum(static_cast<int>(kernels.size()), size);
  parallel_for(spectrum.channels(), threads, [&](int channel) {
    const ConstView kernel = kernels[static_cast<std::size_t>(channel)].view();
    const int side = kernel.width(), half = side / 2;
    // the rows of the frame that hold nothing are neither transformed nor kept
    Image laid(1, {size.width, side});
    for (int y = 0; y < side; ++y) {
      const auto row = laid.view().row(0, y);
      for (int x = 0; x < side; ++x)
        row[static_cast<std::size_t>((x - half + size.width) % size.width)] = kernel(0, y, x);
    }
    ComplexLines rows(spectrum.columns(), side);
    set_rows(
        size.width, [&](int y) { return laid.view().row(0, y).data(); }, rows);
    const LineFft line_fft(size.height);
    ComplexLines column(1, size.height);
    column.clear();
    const auto above = static_cast<std::size_t>(half);
    for (int kx = 0; kx < spectrum.columns(); ++kx) {
      // the centre comes first, what lies above it last
      const auto from = rows.line(kx);
      std::ranges::copy(from.subspan(above), column.line(0).begin());
      std::ranges::copy(from.first(above), column.line(0).last(above).begin());
      line_fft.forward(column.line(0), spectrum.column(channel, kx));
    }
  });
  return spectrum;
}

Image image_from_columns(int channels, Size size, Rect part, const FillColumn& fill,
                         const FromColumnsOptions& options) {
  Image image = Image::unset(channels, part.size());
  if (image.empty()) return image;
  const int groups = options.sources == 0 ? channels : std::min(options.sources, channels);
  parallel_for(groups, options.threads, [&](int group) {
    std::vector<Plane> planes = planes_of(channels, group, groups, size, options.filled);
    fill_columns(planes, size, fill);
    for (const Plane& plane : planes) {
      RowMaker rows(plane.columns, size, part);
      const auto out = image.view().channel(plane.channel);
      for_blocks(part.height, [&](int begin, int count) {
        rows.write(begin, out.crop({0, begin, part.width, count}));
      });
    }
  });
  return image;
}

void rows_from_columns(int channels, Size size, Rect part, const FillColumn& fill,
                       const UseRows& use, std::span<const int> filled) {
  std::vector<Plane> planes = planes_of(channels, 0, 1, size, filled);
  fill_columns(planes, size, fill);
  std::vector<RowMaker> makers;
  for (const Plane& plane : planes) makers.emplace_back(plane.columns, size, part);
  Image rows = Image::unset(channels, {part.width, block});
  for_blocks(part.height, [&](int begin, int count) {
    const auto some = rows.view().crop({0, 0, part.width, count});
    for (int channel = 0; channel < channels; ++channel)
      makers[static_cast<std::size_t>(channel)].write(begin, some.channel(channel));
    use(begin, some);
  });
}

}  // namespace limpid
