#include "multiframe/match_wings.h"

#include <gtest/gtest.h>

namespace limpid::multiframe {
namespace {

Measured frame(float fwhm_px, float beta, float wing_weight) {
  Measured m;
  m.fwhm_px = fwhm_px;
  m.beta = beta;
  m.wing_weight = wing_weight;
  return m;
}

TEST(MatchWings, FramesThatTellLittleTakeThoseOfTheOthers) {
  std::vector<Measured> frames;
  frames.push_back(frame(2.5F, 3, 5000));
  frames.push_back(frame(3, 3, 5000));
  frames.push_back(frame(5, 1.9F, 0));
  match_wings(frames);
  EXPECT_NEAR(frames[0].beta, 3, 1e-3F);
  EXPECT_NEAR(frames[2].beta, 3, 1e-3F);
  EXPECT_NEAR(frames[2].member.beta_factor, 3 / 1.9F, 1e-3F);
  // the same star, described with lighter wings, has a wider core
  EXPECT_GT(frames[2].member.fwhm_factor, 1);
  EXPECT_LT(frames[2].member.fwhm_factor, 1.1F);
  EXPECT_NEAR(frames[2].fwhm_px, 5 * frames[2].member.fwhm_factor, 1e-3F);
}

TEST(MatchWings, FramesThatTellMuchKeepTheirOwn) {
  std::vector<Measured> frames;
  frames.push_back(frame(2.5F, 2.5F, 3000));
  frames.push_back(frame(4, 4, 3000));
  match_wings(frames);
  // a firmness of 1 / 0.15^2 against 3000
  EXPECT_NEAR(frames[0].beta, 2.5F, 0.02F);
  EXPECT_NEAR(frames[1].beta, 4, 0.03F);
}

TEST(MatchWings, GivenPsfsAndFaultyFramesTakeNoPart) {
  std::vector<Measured> frames;
  frames.push_back(frame(2.5F, 3, 1000));
  frames.push_back(frame(0, 0, 0));
  frames.push_back(frame(3, 1.5F, 1e6F));
  frames.back().fault = "empty";
  match_wings(frames);
  EXPECT_NEAR(frames[0].beta, 3, 1e-3F);
  EXPECT_EQ(frames[1].member.beta_factor, 1);
  EXPECT_EQ(frames[2].member.fwhm_factor, 1);
}

TEST(MatchWings, NothingIsKnownWithoutStars) {
  std::vector<Measured> frames;
  frames.push_back(frame(3, 3, 0));
  match_wings(frames);
  EXPECT_EQ(frames[0].beta, 3);
  EXPECT_EQ(wing_weight({}), 0);
}

TEST(MatchWings, FitsThatANebulaSpoilsTellLess) {
  StarCatalogue catalogue;
  catalogue.sky.resize(1);
  Star star;
  StarFit fit;
  fit.psf.beta = 3;
  fit.beta_error = 0.3F;
  fit.chi2 = 1;
  star.fits = {fit};
  catalogue.stars = {star};
  const float clean = wing_weight(catalogue);
  EXPECT_NEAR(clean, 1 / (0.1F * 0.1F + 0.15F * 0.15F), 0.1F);
  catalogue.stars[0].fits[0].chi2 = 16;
  EXPECT_LT(wing_weight(catalogue), 0.3F * clean);
  catalogue.stars[0].fits[0].beta_error = 0;  // held
  EXPECT_EQ(wing_weight(catalogue), 0);
}

}  // namespace
}  // namespace limpid::multiframe
