#include "core/fft_columns.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/fft.h"
#include "core/fft_lines.h"

namespace limpid {
namespace {

Image noise(int channels, Size size) {
  Image image(channels, size);
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (float& pixel : image.pixels()) pixel = normal(random);
  return image;
}

void expect_same(const ColumnSpectrum& columns, const Spectrum& rows, float tolerance) {
  ASSERT_EQ(columns.channels(), rows.channels());
  for (int c = 0; c < rows.channels(); ++c) {
    for (int ky = 0; ky < rows.size().height; ++ky) {
      for (int kx = 0; kx < rows.columns(); ++kx) {
        const auto a = columns.column(c, kx)[static_cast<std::size_t>(ky)],
                   b = rows.row(c, ky)[static_cast<std::size_t>(kx)];
        ASSERT_LT(std::abs(a - b), tolerance) << kx << ", " << ky << " of " << rows.size().width;
      }
    }
  }
}

const Size sizes[] = {{64, 48}, {33, 21}, {30, 77}, {12, 10}, {1, 8}, {8, 1}, {2, 2}, {1, 1}};

TEST(FftColumns, AreTheRowsTurned) {
  for (const Size size : sizes) {
    const Image image = noise(2, size);
    // sums of 3,000 terms of size one, each rounded to 6e-8
    expect_same(column_fft(image.view()), fft(image.view()), 1e-4F);
  }
}

TEST(FftColumns, GiveThePartOfTheImageBack) {
  for (const Size size : sizes) {
    const Image image = noise(3, size);
    const ColumnSpectrum spectrum = column_fft(image.view(), 3);
    const auto fill = [&](int channel, int kx, std::span<std::complex<float>> column) {
      std::ranges::copy(spectrum.column(channel, kx), column.begin());
    };
    for (const int margin : {0, 1, 3}) {
      if (2 * margin >= std::min(size.width, size.height)) continue;
      const Rect part{margin, margin, size.width - 2 * margin, size.height - 2 * margin};
      const Image back = image_from_columns(3, size, part, fill, {.threads = 2}),
                  wanted = copy(image.view().crop(part));
      ASSERT_EQ(back.size(), wanted.size());
      for (std::size_t i = 0; i < wanted.pixels().size(); ++i)
        ASSERT_NEAR(back.pixels()[i], wanted.pixels()[i], 3e-6F);
    }
  }
}

TEST(FftColumns, SideBySideAndWithoutEmptyColumnsMakeTheSame) {
  constexpr Size size{40, 24};
  const ColumnSpectrum spectrum = column_fft(noise(2, size).view());
  constexpr std::array<int, 4> filled{21, 7, 13, 0};
  const auto fill = [&](int channel, int kx, std::span<std::complex<float>> column) {
    std::ranges::copy(spectrum.column(channel % 2, kx), column.begin());
    if (kx >= filled[static_cast<std::size_t>(channel)])
      std::ranges::fill(column, std::complex<float>());
  };
  constexpr Rect part{3, 2, 30, 19};
  const Image all = image_from_columns(4, size, part, fill),
              some = image_from_columns(4, size, part, fill, {.filled = filled, .sources = 2});
  EXPECT_TRUE(std::ranges::equal(all.pixels(), some.pixels()));
  Image by_rows(4, part.size());
  rows_from_columns(
      4, size, part, fill,
      [&](int first, ConstView rows) {
        for (int c = 0; c < rows.channels(); ++c) {
          for (int y = 0; y < rows.height(); ++y)
            std::ranges::copy(rows.row(c, y), by_rows.view().row(c, first + y).begin());
        }
      },
      filled);
  EXPECT_TRUE(std::ranges::equal(all.pixels(), by_rows.pixels()));
}

TEST(FftColumns, OfKernelsAreThoseOfTransfer) {
  std::vector<Image> kernels;
  kernels.push_back(noise(1, {8, 8}));
  kernels.push_back(noise(1, {9, 9}));
  for (const Size size : {Size{40, 24}, Size{15, 9}})
    expect_same(column_transfer(kernels, size), transfer(kernels, size), 1e-5F);
}

TEST(FftColumns, WithoutHermitianSymmetryAreWhatTheRealInverseTakes) {
  // a filter may break it at the highest frequency of an even width; the rows must not mix
  const Size size{16, 12};
  const Image image = noise(1, size);
  Spectrum rows = fft(image.view());
  for (int ky = 0; ky < size.height; ++ky) {
    rows.row(0, ky)[0] *= std::complex<float>(0.6F, 0.8F);
    rows.row(0, ky)[8] *= std::complex<float>(0.6F, 0.8F);
  }
  const Image columns = image_from_columns(
      1, size, {0, 0, 16, 12}, [&](int, int kx, std::span<std::complex<float>> column) {
        for (int ky = 0; ky < size.height; ++ky)
          column[static_cast<std::size_t>(ky)] = rows.row(0, ky)[static_cast<std::size_t>(kx)];
      });
  const Image expected = inverse_fft(std::move(rows));
  for (std::size_t i = 0; i < expected.pixels().size(); ++i)
    ASSERT_NEAR(columns.pixels()[i], expected.pixels()[i], 3e-6F);
}

// FFTW's planner is one for the whole process: whole fields, columns and single lines ask it.
TEST(FftPlans, OfAllKindsMayBeMadeAtOnce) {
  constexpr int rounds = 40, kinds = 3;
  std::vector<float> errors(2 * kinds, 0.0F);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < errors.size(); ++i) {
      threads.emplace_back([&errors, i] {
        for (int round = 0; round < rounds; ++round) {
          // lengths that no other test and no other thread has asked for
          const int length = 211 + 2 * (rounds * static_cast<int>(i) + round);
          const Image image = noise(1, {length, 3});
          Image back;
          if (i % kinds == 0) {
            back = inverse_fft(fft(image.view()));
          } else if (i % kinds == 1) {
            const ColumnSpectrum spectrum = column_fft(image.view());
            back = image_from_columns(1, image.size(), {0, 0, length, 3},
                                      [&](int, int kx, std::span<std::complex<float>> column) {
                                        std::ranges::copy(spectrum.column(0, kx), column.begin());
                                      });
          } else {
            ComplexLines lines(3, length), spectra(3, length);
            back = Image(1, image.size());
            const LineFft line_fft(length);
            for (int y = 0; y < 3; ++y) {
              std::ranges::copy(image.view().row(0, y), lines.line(y).begin());
              line_fft.forward(lines.line(y), spectra.line(y));
              line_fft.inverse(spectra.line(y), lines.line(y));
              std::ranges::transform(lines.line(y), back.view().row(0, y).begin(),
                                     [&](std::complex<float> value) {
                                       return value.real() / static_cast<float>(length);
                                     });
            }
          }
          for (std::size_t p = 0; p < back.pixels().size(); ++p)
            errors[i] = std::max(errors[i], std::abs(back.pixels()[p] - image.pixels()[p]));
        }
      });
    }
  }
  // rounding of sums of up to 700 terms of size one
  for (const float error : errors) EXPECT_LT(error, 1e-5F);
}

}  // namespace
}  // namespace limpid
