#include "measure/moffat.h"

#include <cmath>
#include <numbers>
#include <random>

#include <gtest/gtest.h>

#include "synthetic.h"

namespace limpid {
namespace {

/// The definition, summed over 60 x 60 points in the pixel.
double slow_pixel(const Psf& psf, double dx, double dy) {
  const double ratio = 1 - psf.ellipticity(), angle = psf.angle_rad(), beta = psf.beta;
  const double scale = psf.fwhm_px / (2 * std::sqrt(std::exp2(1 / beta) - 1));
  const double major = scale / std::sqrt(ratio), minor = scale * std::sqrt(ratio);
  constexpr int points = 60;
  double sum = 0;
  for (int i = 0; i < points; ++i) {
    for (int j = 0; j < points; ++j) {
      const double x = dx - 0.5 + (j + 0.5) / points, y = dy - 0.5 + (i + 0.5) / points;
      const double u = (x * std::cos(angle) + y * std::sin(angle)) / major;
      const double v = (y * std::cos(angle) - x * std::sin(angle)) / minor;
      sum += std::pow(1 + u * u + v * v, -beta);
    }
  }
  return sum / (points * points) * (beta - 1) / (std::numbers::pi * major * minor);
}

TEST(MoffatProfile, PixelIsTheIntegralOfTheDefinition) {
  for (const float fwhm : {0.8F, 1.5F, 3.0F, 6.0F}) {
    for (const float ellipticity : {0.0F, 0.5F}) {
      for (const float beta : {1.3F, 3.0F, 10.0F}) {
        const Psf psf{fwhm, beta, ellipticity * std::cos(1.0F), ellipticity * std::sin(1.0F), 0, 0};
        const MoffatProfile profile(psf.fwhm_px, psf.e1, psf.e2, psf.beta);
        const double peak = slow_pixel(psf, 0, 0);
        for (const double dx : {-2.9, -0.9, 0.1, 1.1}) {
          for (const double dy : {-1.3, -0.3, 0.7}) {
            // 5e-4 of the peak: of what the reference itself is accurate to, the most by far
            EXPECT_NEAR(profile.pixel(dx, dy), slow_pixel(psf, dx, dy), 5e-4 * peak)
                << fwhm << ' ' << ellipticity << ' ' << beta << ' ' << dx << ' ' << dy;
          }
        }
      }
    }
  }
}

TEST(MoffatProfile, DerivativesFollowDifferences) {
  constexpr double fwhm = 2.4, e1 = 0.2, e2 = -0.1, beta = 2.7, dx = 0.8, dy = -1.3, step = 1e-5;
  const auto at = [&](double f, double a, double b, double m, double x, double y) {
    return MoffatProfile(f, a, b, m).pixel(x, y);
  };
  const MoffatTerms terms =
      MoffatProfile(fwhm, e1, e2, beta)
          .terms(Eigen::ArrayXd::Constant(1, dx), Eigen::ArrayXd::Constant(1, dy));
  const auto slope = [&](double above, double below) { return (above - below) / (2 * step); };
  const double tolerance = 1e-6;  // of differences with this step
  EXPECT_NEAR(terms(0, moffat_by_x),
              -slope(at(fwhm, e1, e2, beta, dx + step, dy), at(fwhm, e1, e2, beta, dx - step, dy)),
              tolerance);
  EXPECT_NEAR(terms(0, moffat_by_y),
              -slope(at(fwhm, e1, e2, beta, dx, dy + step), at(fwhm, e1, e2, beta, dx, dy - step)),
              tolerance);
  EXPECT_NEAR(terms(0, moffat_by_log_fwhm),
              slope(at(fwhm * (1 + step), e1, e2, beta, dx, dy),
                    at(fwhm * (1 - step), e1, e2, beta, dx, dy)),
              tolerance);
  EXPECT_NEAR(terms(0, moffat_by_e1),
              slope(at(fwhm, e1 + step, e2, beta, dx, dy), at(fwhm, e1 - step, e2, beta, dx, dy)),
              tolerance);
  EXPECT_NEAR(terms(0, moffat_by_e2),
              slope(at(fwhm, e1, e2 + step, beta, dx, dy), at(fwhm, e1, e2 - step, beta, dx, dy)),
              tolerance);
  EXPECT_NEAR(terms(0, moffat_by_beta),
              slope(at(fwhm, e1, e2, beta + step, dx, dy), at(fwhm, e1, e2, beta - step, dx, dy)),
              tolerance);
}

TEST(MoffatProfile, ManyPixelsAreEachWhatItIsAlone) {
  // narrow, so that all rules are met; a number that no vector unit divides
  const MoffatProfile profile(1.2, 0.3, -0.2, 2.5);
  constexpr int side = 19;
  Eigen::ArrayXd x(side * side), y(side * side);
  for (int i = 0; i < side * side; ++i) {
    x[i] = 0.3 + i % side - side / 2;
    y[i] = -0.2 + i / side - side / 2;
  }
  const Eigen::ArrayXd values = profile.pixels(x, y);
  const MoffatTerms terms = profile.terms(x, y);
  for (int i = 0; i < side * side; ++i) {
    EXPECT_EQ(values[i], profile.pixel(x[i], y[i]));
    EXPECT_NEAR(terms(i, moffat_value) / values[i], 1, 1e-13);
  }
}

TEST(Psf, KernelSumsToOneAndSitsWhereItSays) {
  const Psf psf{2.6F, 3, 0.2F, 0.1F, 0.3F, -0.4F};
  const Image kernel = psf.kernel(41);
  double sum = 0, x_sum = 0, y_sum = 0;
  for (int y = 0; y < 41; ++y) {
    for (int x = 0; x < 41; ++x) {
      const double value = kernel.view()(0, y, x);
      sum += value;
      x_sum += x * value;
      y_sum += y * value;
    }
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  // 0.01: the wings cut off by the frame weigh a little less on one side
  EXPECT_NEAR(x_sum, 20.3, 0.01);
  EXPECT_NEAR(y_sum, 19.6, 0.01);
}

TEST(FitMoffat, RecoversANoiselessKernelExactly) {
  for (const float fwhm : {0.8F, 1.5F, 3.0F, 9.0F}) {
    for (const float beta : {1.5F, 3.0F, 8.0F}) {
      const Psf psf{fwhm, beta, 0.15F, -0.1F, 0.23F, -0.31F};
      const auto fit = fit_moffat(psf.kernel(65).view(), {32, 32});
      ASSERT_TRUE(fit) << fwhm << ' ' << beta;
      // float pixels hold 1e-7
      EXPECT_NEAR(fit->value.fwhm_px, fwhm, 1e-3 * fwhm);
      EXPECT_NEAR(fit->value.beta, beta, 3e-3 * beta);
      EXPECT_NEAR(fit->value.e1, 0.15, 1e-3);
      EXPECT_NEAR(fit->value.e2, -0.1, 1e-3);
      EXPECT_NEAR(fit->value.x, 32.23, 1e-3);
      EXPECT_LT(fit->misfit, 1e-4);
    }
  }
}

/// Mean relative error of the FWHM, mean of e1 - truth, and the widths of the pull distributions.
struct Statistics {
  double bias = 0, e1_bias = 0, x_rms = 0, fwhm_pull = 0, x_pull = 0, flux_pull = 0;
};
Statistics repeat_fits(float fwhm, float gain, int count) {
  const Psf shape{fwhm, 3, 0.1F, 0, 0, 0};
  const float flux = synthetic::flux_for_snr(shape, 100, 1);
  const int reach = static_cast<int>(std::ceil(2.5F * fwhm)) + 2;
  Statistics sums;
  for (int i = 0; i < count; ++i) {
    Image cutout(1, {2 * reach + 1, 2 * reach + 1}, 10.0F);
    const auto x =
        static_cast<float>(reach) + std::fmod(0.37F * static_cast<float>(i), 1.0F) - 0.5F;
    synthetic::add_star(cutout.view(), shape, {x, static_cast<float>(reach), flux});
    synthetic::add_noise(cutout.view(), 1, gain, 10, static_cast<std::uint32_t>(i) + 1);
    MoffatOptions options;
    options.sky_sigma = 1;
    options.gain = gain;
    const auto fit = fit_moffat(cutout.view(), {double(reach), double(reach)}, options);
    if (!fit) {
      ADD_FAILURE() << "no fit " << fwhm << ' ' << i;
      continue;
    }
    sums.bias += (fit->value.fwhm_px / fwhm - 1) / count;
    sums.e1_bias += (fit->value.e1 - 0.1) / count;
    sums.x_rms += std::pow(fit->value.x - x, 2) / count;
    sums.fwhm_pull += std::pow((fit->value.fwhm_px - fwhm) / fit->error.fwhm_px, 2) / count;
    sums.x_pull += std::pow((fit->value.x - x) / fit->error.x, 2) / count;
    sums.flux_pull += std::pow((fit->value.flux - flux) / fit->error.flux, 2) / count;
  }
  return sums;
}

TEST(FitMoffat, IsUnbiasedAndHonestAtSignalToNoise100) {
  for (const float fwhm : {1.5F, 3.0F, 6.0F, 10.0F}) {
    for (const float gain : {0.0F, 20.0F}) {
      constexpr int count = 80;
      const Statistics got = repeat_fits(fwhm, gain, count);
      // one fit scatters by 2 % (a little more with shot noise): the mean of 80 by 0.3 %
      EXPECT_NEAR(got.bias, 0, 0.01) << fwhm << ' ' << gain;
      EXPECT_NEAR(got.e1_bias, 0, 0.01) << fwhm << ' ' << gain;
      // the width of a distribution from 80 samples is known to 8 %
      EXPECT_NEAR(std::sqrt(got.fwhm_pull), 1, 0.25) << fwhm << ' ' << gain;
      EXPECT_NEAR(std::sqrt(got.x_pull), 1, 0.25) << fwhm << ' ' << gain;
      EXPECT_NEAR(std::sqrt(got.flux_pull), 1, 0.25) << fwhm << ' ' << gain;
    }
  }
  // the limit for a star of 3 px is 0.55 FWHM / SNR = 0.016 px, and sky and shape cost a little
  EXPECT_LT(std::sqrt(repeat_fits(3, 0, 80).x_rms), 0.025);
}

TEST(FitMoffat, LeavesOutClippedAndMaskedPixels) {
  const Psf psf{4, 3, 0.1F, 0.05F, 0.2F, 0.1F};
  Image cutout = psf.kernel(41);
  Image mask(1, cutout.size());
  const float clip = 0.6F * cutout.view()(0, 20, 20);
  for (float& value : cutout.pixels()) value = std::min(value, clip);
  for (int y = 0; y < 41; ++y) {
    cutout.view()(0, y, 30) = 7;  // a bad column
    mask.view()(0, y, 30) = 1;
  }
  cutout.view()(0, 5, 5) = std::numeric_limits<float>::quiet_NaN();
  MoffatOptions options;
  options.saturation = 0.999 * clip;
  options.mask = mask.view();
  const auto fit = fit_moffat(cutout.view(), {20, 20, 5}, options);
  ASSERT_TRUE(fit);
  EXPECT_NEAR(fit->value.fwhm_px, 4, 0.02);
  EXPECT_NEAR(fit->value.flux, 1, 0.02);
}

TEST(FitMoffat, LeavesOutCosmicRaysWhenAsked) {
  Image cutout(1, {41, 41});
  synthetic::add_star(cutout.view(), {4, 3, 0, 0, 0, 0}, {20.2F, 19.7F, 8000}, 0, 20);
  synthetic::add_noise(cutout.view(), 1, 0, 0, 3);
  for (const auto& [x, y] : {std::pair{29, 20}, {12, 25}, {13, 25}}) cutout.view()(0, y, x) += 150;
  MoffatOptions options;
  options.sky_sigma = 1;
  options.sloping_sky = true;
  const auto fooled = fit_moffat(cutout.view(), {20, 20, 4}, options);
  options.reject_sigma = 6;
  const auto fit = fit_moffat(cutout.view(), {20, 20, 4}, options);
  ASSERT_TRUE(fit && fooled);
  EXPECT_GT(std::abs(fooled->value.beta - 3), 0.3);
  EXPECT_EQ(fit->pixels_used, 41 * 41 - 3);
  EXPECT_LT(std::abs(fit->value.beta - 3), 4 * fit->error.beta);
  EXPECT_LT(fit->error.beta, 0.1);
  EXPECT_NEAR(fit->chi2, 1, 0.15);  // of 1671 pixels: 0.035, four times
}

TEST(FitMoffat, HoldsWhatIsFixed) {
  MoffatOptions options;
  options.fixed_beta = 4.5;
  options.fixed_sky = 0.01;
  const auto fit = fit_moffat(Psf{3, 3, 0, 0, 0, 0}.kernel(31).view(), {15, 15}, options);
  ASSERT_TRUE(fit);
  EXPECT_DOUBLE_EQ(fit->value.beta, 4.5);
  EXPECT_DOUBLE_EQ(fit->value.sky, 0.01);
  EXPECT_EQ(fit->error.beta, 0);
}

TEST(FitMoffat, HasNoAnswerWithoutAStar) {
  const Image flat(1, {15, 15}, 0.5F);
  EXPECT_FALSE(fit_moffat(flat.view(), {7, 7}));
  const Image tiny(1, {2, 2}, 1.0F);
  EXPECT_FALSE(fit_moffat(tiny.view(), {1, 1}));
  const Image nothing(1, {15, 15}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_FALSE(fit_moffat(nothing.view(), {7, 7}));
}

}  // namespace
}  // namespace limpid
