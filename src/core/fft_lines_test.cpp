#include "core/fft_lines.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

#include <gtest/gtest.h>

#include "core/fft_columns.h"

namespace limpid {
namespace {

using Complex = std::complex<float>;

ComplexLines drawn(int count, int length) {
  ComplexLines lines(count, length);
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (int i = 0; i < count; ++i) {
    for (Complex& value : lines.line(i)) value = {normal(random), normal(random)};
  }
  return lines;
}

TEST(ComplexLines, RowsAreTheColumnsTurnedAndTurnedBack) {
  for (const auto& [count, length] : {std::pair{40, 64}, {37, 21}, {3, 5}, {1, 1}}) {
    const ComplexLines columns = drawn(count, length);
    ComplexLines back(count, length), rows(16, count);
    for (int first = 0; first < length; first += 16) {
      const int some = std::min(16, length - first);
      turn(columns, first, some, rows);
      for (int y = 0; y < some; ++y) {
        for (int x = 0; x < count; ++x) {
          ASSERT_EQ(rows.line(y)[static_cast<std::size_t>(x)],
                    columns.line(x)[static_cast<std::size_t>(first + y)]);
        }
      }
      turn_back(rows, first, some, back);
    }
    for (int x = 0; x < count; ++x) ASSERT_TRUE(std::ranges::equal(back.line(x), columns.line(x)));
  }
}

TEST(LineFft, InverseGivesTheLineBackAndLeavesWhatItReads) {
  for (const int length : {1, 2, 21, 64, 576, 640}) {
    const ComplexLines start = drawn(1, length);
    ComplexLines spectrum(1, length), back(1, length);
    const LineFft fft(length);
    fft.forward(start.line(0), spectrum.line(0));
    EXPECT_TRUE(std::ranges::equal(start.line(0), drawn(1, length).line(0)));
    fft.inverse(spectrum.line(0), back.line(0));
    // rounding grows with log2 of the length, ten steps of 6e-8
    for (std::size_t i = 0; i < static_cast<std::size_t>(length); ++i) {
      ASSERT_LT(std::abs(back.line(0)[i] / static_cast<float>(length) - start.line(0)[i]), 3e-6F);
    }
  }
}

// Of some lengths the plan is told beforehand.
TEST(LineFft, IsTheSumOverTheLine) {
  for (const int length : {21, 576}) {
    const ComplexLines start = drawn(1, length);
    ComplexLines spectrum(1, length);
    LineFft(length).forward(start.line(0), spectrum.line(0));
    for (int k = 0; k < length; ++k) {
      std::complex<double> sum = 0;
      for (int x = 0; x < length; ++x) {
        sum += std::complex<double>(start.line(0)[static_cast<std::size_t>(x)]) *
               std::polar(1.0, -2 * std::numbers::pi * (k * x % length) / length);
      }
      const std::complex<double> got(spectrum.line(0)[static_cast<std::size_t>(k)]);
      // 576 terms of size one, each rounded to 6e-8 in ten steps
      ASSERT_LT(std::abs(got - sum), 3e-5) << k << " of " << length;
    }
  }
}

// What the multi-frame solver builds on.
TEST(LineFft, TwoRealFieldsAreThePartsOfOneComplexField) {
  constexpr int width = 24, height = 20;
  Image fields(2, {width, height});
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (float& pixel : fields.pixels()) pixel = normal(random);
  ComplexLines rows(height, width), spectra(height, width), columns(width, height),
      turned(width, height);
  const LineFft row_fft(width), column_fft_of(height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x)
      rows.line(y)[static_cast<std::size_t>(x)] = {fields.view()(0, y, x), fields.view()(1, y, x)};
    row_fft.forward(rows.line(y), spectra.line(y));
  }
  turn_back(spectra, 0, height, columns);
  const ColumnSpectrum half = column_fft(fields.view());
  for (int kx = 0; kx <= width / 2; ++kx) {
    // the frequencies of the mirrored column run backwards, as the inverse transform has them
    const int mirror = (width - kx) % width;
    column_fft_of.forward(columns.line(kx), turned.line(kx));
    if (mirror != kx) column_fft_of.inverse(columns.line(mirror), turned.line(mirror));
    for (std::size_t ky = 0; ky < height; ++ky) {
      const Complex a = half.column(0, kx)[ky], b = half.column(1, kx)[ky], i(0, 1);
      ASSERT_LT(std::abs(turned.line(kx)[ky] - (a + i * b)), 1e-4F);
      if (mirror == kx) continue;
      ASSERT_LT(std::abs(turned.line(mirror)[ky] - (std::conj(a) + i * std::conj(b))), 1e-4F);
    }
  }
}

}  // namespace
}  // namespace limpid
