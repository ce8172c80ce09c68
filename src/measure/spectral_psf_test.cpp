#include <cmath>
#include <complex>
#include <numbers>
#include <random>

#include <gtest/gtest.h>
#include <limpid/stars.h>

#include "core/fft.h"
#include "synthetic.h"

namespace limpid {
namespace {

/// Turbulence with power k^-3 blurred by a Moffat, in units of the noise that is added.
Image starless_frame(float fwhm_px, float contrast, std::uint32_t seed) {
  constexpr int side = 512;
  Image white(1, {side, side});
  synthetic::add_noise(white.view(), 1, 0, 0, seed);
  Spectrum spectrum = fft(white.view());
  Image kernel(1, {side, side});
  if (fwhm_px > 0) {
    kernel = Psf{fwhm_px, 4, 0, 0, 0, 0}.kernel(side);
  } else {
    kernel.view()(0, side / 2, side / 2) = 1;
  }
  const Spectrum transfer = fft(kernel.view());
  for (int ky = 0; ky < side; ++ky) {
    const auto row = spectrum.row(0, ky);
    for (std::size_t kx = 0; kx < row.size(); ++kx) {
      const double k = std::hypot(static_cast<double>(kx), std::min(ky, side - ky));
      row[kx] *=
          k == 0 ? 0.0F : static_cast<float>(std::pow(k, -1.5)) * std::abs(transfer.row(0, ky)[kx]);
    }
  }
  Image frame = inverse_fft(std::move(spectrum));
  double squares = 0;
  for (const float value : frame.pixels())
    squares += static_cast<double>(value) * value / (side * side);
  for (float& value : frame.pixels())
    value = 100 + value * contrast / static_cast<float>(std::sqrt(squares));
  synthetic::add_noise(frame.view(), 1, 0, 0, seed + 1);
  return frame;
}

TEST(EstimatePsfFromSpectrum, FindsTheWidthOfAStarlessFrame) {
  for (const float fwhm : {2.5F, 4.0F, 6.0F}) {
    const auto got = estimate_psf_from_spectrum(starless_frame(fwhm, 300, 3).view());
    ASSERT_TRUE(got) << fwhm;
    // a Moffat is not quite the seeing that the model assumes
    EXPECT_NEAR(got->fwhm_px, fwhm, 0.2 * fwhm);
    EXPECT_GT(got->relative_error, 0.1);
  }
}

TEST(EstimatePsfFromSpectrum, HasNoAnswerWhereNothingBends) {
  EXPECT_FALSE(estimate_psf_from_spectrum(starless_frame(0, 300, 5).view()));
  EXPECT_FALSE(estimate_psf_from_spectrum(starless_frame(4, 0, 5).view())) << "pure noise";
  EXPECT_FALSE(estimate_psf_from_spectrum(Image(1, {512, 512}, 0.3F).view()));
  EXPECT_FALSE(estimate_psf_from_spectrum(Image(1, {30, 30}, 0.3F).view()));
  EXPECT_FALSE(estimate_psf_from_spectrum(
      Image(1, {512, 512}, std::numeric_limits<float>::quiet_NaN()).view()));
}

}  // namespace
}  // namespace limpid
