#include <algorithm>
#include <cmath>
#include <random>

#include <gtest/gtest.h>
#include <limpid/stars.h>

#include "synthetic.h"

namespace limpid {
namespace {

/// An aberrated field: curvature, tilt and astigmatism that grows with the distance from the axis.
Psf aberrated(float x, float y, Size frame, int channel) {
  const float u = 2 * x / static_cast<float>(frame.width - 1) - 1;
  const float v = 2 * y / static_cast<float>(frame.height - 1) - 1;
  const float fwhm =
      2.8F * (1 + 0.05F * u + 0.12F * (u * u + v * v)) + 0.2F * static_cast<float>(channel);
  return {
      fwhm, 3, 0.12F * (u * u - v * v), 0.12F * 2 * u * v, 0.15F * u * static_cast<float>(channel),
      0};
}

/// A catalogue as the fits would give it, with their errors, without rendering pixels.
StarCatalogue catalogue_of(int stars, int channels, float outliers, std::uint32_t seed) {
  StarCatalogue catalogue;
  catalogue.frame = {3000, 2000};
  catalogue.sky.resize(static_cast<std::size_t>(channels));
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform;
  for (int i = 0; i < stars; ++i) {
    Star star;
    star.x = uniform(random) * 2999;
    star.y = uniform(random) * 1999;
    star.snr = 100;
    const bool wild = uniform(random) < outliers;
    for (int c = 0; c < channels; ++c) {
      StarFit fit;
      fit.psf = aberrated(star.x, star.y, catalogue.frame, c);
      fit.fwhm_error = 0.02F * fit.psf.fwhm_px;
      fit.ellipticity_error = 0.02F;
      fit.x_error = fit.y_error = 0.02F;
      fit.psf.fwhm_px += fit.fwhm_error * normal(random) + (wild ? 1.5F : 0.0F);
      fit.psf.e1 += 0.02F * normal(random) + (wild ? 0.4F : 0.0F);
      fit.psf.e2 += 0.02F * normal(random);
      fit.psf.dx += 0.02F * normal(random);
      star.fits.push_back(fit);
    }
    star.fwhm_px = star.fits[0].psf.fwhm_px;
    star.ellipticity = star.fits[0].psf.ellipticity();
    catalogue.stars.push_back(star);
  }
  return catalogue;
}

// Of 1 / beta fits err alike whatever they find, and with it the error of beta grows with beta:
// wings found too heavy would weigh dozens of times as much as those found too light.
TEST(FitPsfField, WingsAreNotDecidedByFitsThatANebulaSpoils) {
  StarCatalogue catalogue = catalogue_of(60, 1, 0, 7);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < catalogue.stars.size(); ++i) {
    StarFit& fit = catalogue.stars[i].fits[0];
    const bool spoilt = i % 3 != 0;
    fit.chi2 = spoilt ? 9 : 1;
    const float error = 0.03F;  // of 1 / beta, by noise alone
    fit.psf.beta = 1 / std::clamp(1 / 3.0F + (spoilt ? 4 : 1) * error * normal(random), 0.1F, 0.8F);
    fit.beta_error = error * fit.psf.beta * fit.psf.beta;
  }
  const auto field = fit_psf_field(catalogue);
  ASSERT_TRUE(field);
  // 20 good stars: 0.09 / sqrt(20) = 2 %, three times
  EXPECT_NEAR(field->mean_at(1500, 1000).beta, 3, 0.18F);
}

TEST(FitPsfField, PredictsStarsThatWereLeftOut) {
  const StarCatalogue catalogue = catalogue_of(250, 3, 0.1F, 4);
  const auto field = fit_psf_field(catalogue);
  ASSERT_TRUE(field);
  EXPECT_GE(field->order(), 2);
  double worst_fwhm = 0, worst_shape = 0;
  for (float y = 50; y < 2000; y += 100) {
    for (float x = 50; x < 3000; x += 100) {
      for (int c = 0; c < 3; ++c) {
        const Psf truth = aberrated(x, y, catalogue.frame, c), got = field->at(x, y, c);
        worst_fwhm = std::max(worst_fwhm, std::abs(got.fwhm_px / truth.fwhm_px - 1.0));
        worst_shape =
            std::max<double>(worst_shape, std::hypot(got.e1 - truth.e1, got.e2 - truth.e2));
        // lateral colour relative to the mean of the channels, truth 0.15 u (c - 1)
        const float mean_shift = aberrated(x, y, catalogue.frame, 1).dx;
        EXPECT_NEAR(got.dx - field->at(x, y, 1).dx, truth.dx - mean_shift, 0.02);
      }
    }
  }
  EXPECT_LT(worst_fwhm, 0.03);
  EXPECT_LT(worst_shape, 0.03);
}

TEST(FitPsfField, MeasuredFrameHasTheFieldItWasDrawnWith) {
  synthetic::FieldSettings settings;
  settings.size = {900, 900};
  settings.stars = 220;
  settings.snr_min = 40;
  settings.snr_max = 400;
  settings.separation_px = 28;
  settings.psf = [&](float x, float y, int c) { return aberrated(x, y, {900, 900}, c); };
  const auto drawn = synthetic::make_field(settings);
  const auto field = fit_psf_field(detect_stars(drawn.frame.view()));
  ASSERT_TRUE(field);
  for (float y = 100; y < 900; y += 100) {
    for (float x = 100; x < 900; x += 100) {
      const Psf truth = aberrated(x, y, {900, 900}, 0), got = field->at(x, y, 0);
      EXPECT_NEAR(got.fwhm_px, truth.fwhm_px, 0.03 * truth.fwhm_px) << x << ' ' << y;
      EXPECT_NEAR(got.e1, truth.e1, 0.02) << x << ' ' << y;
      EXPECT_NEAR(got.e2, truth.e2, 0.02) << x << ' ' << y;
    }
  }
}

TEST(FitPsfField, FewStarsMeanALowOrder) {
  EXPECT_FALSE(fit_psf_field(catalogue_of(2, 1, 0, 1)));
  for (const int stars : {3, 5, 8, 15}) {
    const auto field = fit_psf_field(catalogue_of(stars, 1, 0, 1));
    ASSERT_TRUE(field) << stars;
    EXPECT_LE(3 * (field->order() + 1) * (field->order() + 2) / 2, std::max(stars, 3));
    // whatever the order, no corner leaves the range that stars can have here
    for (const float x : {0.0F, 2999.0F}) {
      EXPECT_GT(field->at(x, 0, 0).fwhm_px, 2.0F) << stars;
      EXPECT_LT(field->at(x, 1999, 0).fwhm_px, 5.0F) << stars;
    }
  }
}

/// Widths over a factor of four, ellipticities to 0.4, as knots of nebulae have: `count` of them.
void add_knots(StarCatalogue& catalogue, int count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform;
  for (int i = 0; i < count; ++i) {
    Star knot;
    knot.x = uniform(random) * 2999;
    knot.y = uniform(random) * 1999;
    knot.snr = 60;
    StarFit fit;
    const float shape = 0.4F * uniform(random), angle = 6.2832F * uniform(random);
    fit.psf = {2.5F * std::pow(4.0F, uniform(random)),
               4,
               shape * std::cos(angle),
               shape * std::sin(angle),
               0,
               0};
    fit.fwhm_error = 0.03F * fit.psf.fwhm_px;
    fit.ellipticity_error = 0.03F;
    fit.x_error = fit.y_error = 0.03F;
    knot.fits.assign(catalogue.sky.size(), fit);
    catalogue.stars.push_back(knot);
  }
}

TEST(FitPsfField, KnotsOfNebulaeAreNoStars) {
  int taken = 0;
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    StarCatalogue knots = catalogue_of(0, 1, 0, 1);
    add_knots(knots, 10 + 8 * static_cast<int>(seed), seed);
    taken += fit_psf_field(knots) ? 1 : 0;
    // stars among twice as many knots are found
    StarCatalogue mixed = catalogue_of(40, 1, 0, seed);
    add_knots(mixed, 80, seed);
    const auto field = fit_psf_field(mixed);
    ASSERT_TRUE(field) << seed;
    EXPECT_NEAR(field->at(1500, 1000, 0).fwhm_px, 2.8, 0.08 * 2.8) << seed;
  }
  // some crowd around one width and shape by chance: 4 of 60 fields
  EXPECT_LE(taken, 3);
}

TEST(FitPsfField, StatesAnUncertaintyThatCoversTheError) {
  int covered = 0, places = 0;
  for (std::uint32_t seed = 1; seed <= 10; ++seed) {
    const StarCatalogue catalogue = catalogue_of(60, 1, 0, seed);
    const auto field = fit_psf_field(catalogue);
    ASSERT_TRUE(field);
    for (float x = 300; x < 3000; x += 600) {
      const double truth = aberrated(x, 1000, catalogue.frame, 0).fwhm_px;
      covered += std::abs(field->at(x, 1000, 0).fwhm_px / truth - 1) <
                 2.5 * field->fwhm_uncertainty(x, 1000);
      ++places;
    }
  }
  EXPECT_GE(covered, places * 85 / 100);
}

TEST(PsfField, BinnedAndShiftedFieldsDescribeTheSamePlaces) {
  const auto field = *fit_psf_field(catalogue_of(100, 1, 0, 2));
  const Psf here = field.at(801.5F, 401.5F, 0);
  const Psf binned = field.binned(2).at(400.5F, 200.5F, 0);
  EXPECT_FLOAT_EQ(binned.fwhm_px, here.fwhm_px / 2);
  EXPECT_FLOAT_EQ(binned.e1, here.e1);
  const Psf shifted = field.shifted(700, 300).at(101.5F, 101.5F, 0);
  EXPECT_FLOAT_EQ(shifted.fwhm_px, here.fwhm_px);
  EXPECT_FLOAT_EQ(shifted.e2, here.e2);
}

TEST(PsfField, ConstantIsTheSameEverywhere) {
  const Psf psf{3.2F, 2.8F, 0.1F, -0.2F, 0, 0};
  const auto field = PsfField::constant(psf, {100, 50}, 3);
  EXPECT_EQ(field.channels(), 3);
  for (const Psf& got : {field.at(0, 0, 0), field.at(99, 49, 2), field.mean_at(40, 20)}) {
    EXPECT_FLOAT_EQ(got.fwhm_px, 3.2F);
    EXPECT_FLOAT_EQ(got.beta, 2.8F);
    EXPECT_FLOAT_EQ(got.e2, -0.2F);
  }
}

TEST(ReportStars, SaysWhatTheFieldShows) {
  const StarCatalogue catalogue = catalogue_of(200, 1, 0, 6);
  const auto report = report_stars(catalogue, fit_psf_field(catalogue));
  EXPECT_EQ(report.stars_used, 200);
  EXPECT_EQ(report.sampling_verdict, "well sampled");
  // corners 1.24 of the centre, plus or minus the tilt of 10 % from edge to edge
  EXPECT_NEAR(report.off_axis, 0.24, 0.03);
  EXPECT_NEAR(report.tilt, 0.081, 0.03);
  EXPECT_NE(report.summary.find("right"), std::string::npos) << report.summary;
  EXPECT_EQ(report.field.size(),
            static_cast<std::size_t>(report.field_columns * report.field_rows));
}

TEST(ReportStars, AFewWellKnownPairsDoNotTellTheWidth) {
  StarCatalogue catalogue = catalogue_of(200, 1, 0, 6);
  const float right = report_stars(catalogue, fit_psf_field(catalogue)).fwhm_px_median;
  for (std::size_t i = 0; i < catalogue.stars.size(); ++i) {
    Star& star = catalogue.stars[i];
    star.blended = i < 6;
    star.fwhm_px *= star.blended ? 1.5F : 1;
    for (StarFit& fit : star.fits) {
      fit.psf.fwhm_px *= star.blended ? 1.5F : 1;
      fit.fwhm_error = (star.blended ? 0.01F : 0.1F) * fit.psf.fwhm_px;
    }
  }
  EXPECT_NEAR(report_stars(catalogue, fit_psf_field(catalogue)).fwhm_px_median, right,
              0.03F * right);
}

TEST(ReportStars, IsClearAboutAFrameWithoutStars) {
  StarCatalogue catalogue;
  catalogue.frame = {100, 100};
  catalogue.sky = {{.sky = 0.1F, .sigma = 0.001F}};
  const auto report = report_stars(catalogue, std::nullopt);
  EXPECT_EQ(report.summary, "No stars were found.");
  catalogue.sky = {{.sky = 0.1F, .sigma = 0}};
  EXPECT_NE(report_stars(catalogue, std::nullopt).summary.find("constant"), std::string::npos);
  EXPECT_TRUE(report.field.empty());
}

}  // namespace
}  // namespace limpid
