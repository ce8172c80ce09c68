#include "core/fft.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace limpid {
namespace {

Image noise(int channels, Size size) {
  Image image(channels, size);
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (float& pixel : image.pixels()) pixel = normal(random);
  return image;
}

/// The definition, in double.
std::complex<double> slow_dft(ConstView image, int channel, int kx, int ky) {
  std::complex<double> sum = 0;
  for (int y = 0; y < image.height(); ++y) {
    for (int x = 0; x < image.width(); ++x) {
      const double turns = static_cast<double>(kx) * x / image.width() +
                           static_cast<double>(ky) * y / image.height();
      sum += static_cast<double>(image(channel, y, x)) *
             std::polar(1.0, -2 * std::numbers::pi * turns);
    }
  }
  return sum;
}

TEST(Fft, AgreesWithItsDefinition) {
  for (const Size size : {Size{12, 10}, Size{7, 9}, Size{1, 8}, Size{8, 1}, Size{1, 1}}) {
    const Image image = noise(2, size);
    const Spectrum spectrum = fft(image.view());
    for (int channel = 0; channel < 2; ++channel) {
      for (int ky = 0; ky < size.height; ++ky) {
        for (int kx = 0; kx < spectrum.columns(); ++kx) {
          const auto expected = slow_dft(image.view(), channel, kx, ky);
          const std::complex<double> got = spectrum.row(channel, ky)[static_cast<std::size_t>(kx)];
          // 120 terms of size one, each rounded to 6e-8
          EXPECT_LT(std::abs(got - expected), 2e-5) << size.width << " x " << size.height;
        }
      }
    }
  }
}

TEST(Fft, InverseGivesTheImageBack) {
  for (const Size size : {Size{64, 48}, Size{33, 21}, Size{1, 5}, Size{30, 77}}) {
    const Image image = noise(3, size);
    const Image back = inverse_fft(fft(image.view()));
    for (std::size_t i = 0; i < image.pixels().size(); ++i) {
      // rounding grows with log2 of the number of pixels, about 11 steps of 6e-8
      ASSERT_NEAR(back.pixels()[i], image.pixels()[i], 3e-6F);
    }
  }
}

TEST(Fft, TakesAViewThatIsNotPacked) {
  const Image image = noise(1, {40, 30});
  const ConstView part = image.view().crop({5, 6, 16, 12});
  const Spectrum of_view = fft(part);
  const Spectrum of_copy = fft(copy(part).view());
  EXPECT_TRUE(std::ranges::equal(of_view.plane(0), of_copy.plane(0)));
}

TEST(Fft, OneThreadEqualsEight) {
  const Image image = noise(3, {96, 80});
  const Spectrum one = fft(image.view(), 1);
  const Spectrum eight = fft(image.view(), 8);
  for (int channel = 0; channel < 3; ++channel) {
    EXPECT_TRUE(std::ranges::equal(one.plane(channel), eight.plane(channel)));
  }
}

TEST(Fft, MayBePlannedFromSeveralThreads) {
  std::vector<float> errors(8, 1.0F);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < errors.size(); ++i) {
      threads.emplace_back([&errors, i] {
        const Image image = noise(1, {20 + static_cast<int>(i), 24});
        const Image back = inverse_fft(fft(image.view()));
        errors[i] = std::abs(back.view()(0, 3, 4) - image.view()(0, 3, 4));
      });
    }
  }
  EXPECT_LT(*std::ranges::max_element(errors), 3e-6F);
}

TEST(Fft, GoodLengthsAreEvenAndSmooth) {
  EXPECT_EQ(good_fft_length(1), 2);
  EXPECT_EQ(good_fft_length(512), 512);
  EXPECT_EQ(good_fft_length(511), 512);
  EXPECT_EQ(good_fft_length(513), 540);  // 2 * 2 * 3 * 3 * 3 * 5
}

}  // namespace
}  // namespace limpid
