// The main job with the weights that are shipped: a night's frame in, a better one out.
#include <gtest/gtest.h>

#include <cmath>

#include <limpid/deconvolve.h>
#include <limpid/training.h>

namespace limpid {
namespace {

/// Mean square of the difference over pixels that are clipped in neither, in all channels.
double squared_error(ConstView frame, ConstView truth) {
  double sum = 0, count = 0;
  for (int c = 0; c < frame.channels(); ++c) {
    for (int y = 0; y < frame.height(); ++y) {
      for (int x = 0; x < frame.width(); ++x) {
        if (frame(c, y, x) > 0.8F || truth(c, y, x) > 0.8F) continue;
        const auto miss = static_cast<double>(frame(c, y, x) - truth(c, y, x));
        sum += miss * miss;
        ++count;
      }
    }
  }
  return sum / count;
}

TEST(Restoration, ShippedWeightsRestoreASimulatedNight) {
  const SimulatedNight night = simulate_night({.size = {640, 480}, .seed = 5, .stars = 900});
  const Network network = Network::load(LIMPID_TEST_MODEL, {Device::Kind::cpu, 0});
  const Deconvolved result = deconvolve(night.recorded.view(), network, {.reblur = true});

  ASSERT_TRUE(result.report.trust.has_value());
  const TrustReport& stars = *result.report.trust;
  ASSERT_GT(stars.stars_compared, 20);
  // a frame has one PSF field and few stars here: three times what docs/models.md states
  EXPECT_NEAR(stars.fwhm_ratio.median, 0.75, 0.08);
  EXPECT_NEAR(stars.flux_ratio.median, 1, 0.06);
  EXPECT_LT(stars.centroid_shift_px.median, 0.15);
  EXPECT_LT(stars.ellipticity_after.median, stars.ellipticity_before.median);
  // nebula covers most of so small a frame, and its sharper structure passes for noise
  EXPECT_NEAR(stars.noise_ratio, 1, 0.2);
  // nearer to the truth by at least 2 dB, the noise that stays included
  const double before = squared_error(night.recorded.view(), night.truth.view()),
               after = squared_error(result.image.view(), night.truth.view());
  EXPECT_GT(10 * std::log10(before / after), 2.0);
  ASSERT_TRUE(result.report.reblurring.has_value());
  EXPECT_LT(result.report.reblurring->residual_rms, 1.1);
}

}  // namespace
}  // namespace limpid
