#include "nn/torch_guides.h"

#include <algorithm>
#include <cstring>

#include <gtest/gtest.h>

#include "nn/guides_fftw.h"

namespace limpid {
namespace {

TileControls controls_of(float fwhm_px, float e1, float sharpen) {
  TileControls c;
  for (Psf& psf : c.measured) psf = {.fwhm_px = fwhm_px, .beta = 4, .e1 = e1};
  c.nonstellar = c.measured;
  c.sharpen_stars = sharpen;
  return c;
}

TEST(Guides, LeaveTheMeanOfTheLightAsItIs) {
  torch::manual_seed(1);
  const auto tile = torch::randn({3, 128, 160}) + 7;
  const auto planes = guide_planes(tile, controls_of(3, 0.1F, 0.5F));
  // at zero frequency W = (1 + lambda) / (1 + lambda)
  EXPECT_TRUE(
      torch::allclose(planes.mean({2, 3}), tile.mean({1, 2}).expand({guide_count, 3}), 1e-3, 1e-3));
}

TEST(Guides, AreTheTileWhenNothingIsAskedOfARoundPsf) {
  torch::manual_seed(1);
  TileControls controls = controls_of(3, 0, 0);
  controls.sharpen_nonstellar = 0;
  const auto tile = torch::randn({3, 128, 128});
  const auto planes = guide_planes(tile, controls);
  for (int k = 0; k < guide_count; ++k)
    EXPECT_TRUE(torch::allclose(planes[k], tile, 1e-3, 1e-3)) << k;
}

TEST(Guides, TurnAStarIntoTheWantedOne) {
  TileControls controls = controls_of(4, 0.2F, 0.25F);
  const WantedPsfs wanted = wanted_psfs(controls);
  auto tile = torch::zeros({3, 128, 128});
  const Image from = controls.measured[0].kernel(64), to = wanted.stellar.kernel(64);
  const auto star = torch::from_blob(const_cast<float*>(from.pixels().data()), {64, 64}).clone();
  const auto ideal = torch::from_blob(const_cast<float*>(to.pixels().data()), {64, 64}).clone();
  tile.narrow(1, 32, 64).narrow(2, 32, 64).copy_(star.expand({3, 64, 64}));
  const auto best =
      guide_planes(tile, controls)[nonstellar_guide_count][0].narrow(0, 32, 64).narrow(1, 32, 64);
  // a linear estimate, not the answer: it must take away more than half of what is wrong
  EXPECT_LT((best - ideal).abs().max().item<float>(),
            0.5F * (star - ideal).abs().max().item<float>());
}

TEST(Guides, AreTheSameFromBothLibraries) {
  torch::manual_seed(2);
  auto tile = (torch::randn({3, 96, 120}) * 5 + 3).contiguous();
  TileControls controls = controls_of(3, 0.2F, 0.3F);
  controls.measured[0].dx = 0.4F;
  controls.nonstellar[1].fwhm_px = 2.5F;
  for (auto& residual : controls.residual) residual.assign(psf_kernel_px * psf_kernel_px, 0);
  controls.residual[1][33 * psf_kernel_px + 30] = 0.02F;
  for (const bool mono : {false, true}) {
    controls.mono = mono;
    if (mono) {
      tile.copy_(tile[0].clone().expand({3, 96, 120}));
      controls.measured.fill(controls.measured[0]);
      controls.nonstellar.fill(controls.nonstellar[0]);
      controls.residual.fill(controls.residual[1]);
      // far wings, for the non-stellar planes alone
      controls.nonstellar_residual.fill(controls.residual[1]);
      controls.nonstellar_residual[0][32 * psf_kernel_px + 50] = 0.03F;
      controls.nonstellar_residual.fill(controls.nonstellar_residual[0]);
    }
    const auto slow = guide_planes(tile, controls);
    const Guides fast = guides_in(ConstView(tile.data_ptr<float>(), 3, {120, 96}, 120, 120 * 96),
                                  {0, 0, 120, 96}, controls, 2);
    for (int k = 0; k < guide_count; ++k) {
      for (int c = 0; c < 3; ++c) {
        const bool stellar = k >= nonstellar_guide_count;
        const int number = stellar ? k - nonstellar_guide_count : k;
        const ConstView plane = (stellar ? fast.stellar : fast.nonstellar)
                                    ->view()
                                    .channel(mono ? number : 3 * number + c);
        const auto other = torch::from_blob(const_cast<float*>(plane.row(0, 0).data()), {96, 120});
        EXPECT_TRUE(torch::allclose(slow[k][c], other, 1e-3, 1e-3)) << k << ' ' << c << ' ' << mono;
      }
    }
  }
}

TEST(Guides, WhatIsRememberedOfATileIsWhatWouldBeMade) {
  torch::manual_seed(4);
  const auto tile = (torch::randn({3, 96, 120}) * 5).contiguous();
  const ConstView view(tile.data_ptr<float>(), 3, {120, 96}, 120, 120 * 96);
  const Rect part{32, 32, 56, 32};
  const auto same = [](const Image& a, const Image& b) {
    return std::ranges::equal(a.pixels(), b.pixels());
  };
  GuideMemory memory;
  memory.most = 2;
  TileControls c = controls_of(3, 0.2F, 0.3F);
  // there and back again, and more settings than are kept
  const auto change = [&c](int step) {
    c.sharpen_stars = 0.1F * static_cast<float>(step % 3 + 1);
    c.sharpen_nonstellar = step < 4 ? 0.9F : 0.3F;
    c.adjust_halos = step < 6 ? 0.0F : 0.2F;
    if (step == 7) c.nonstellar[1].fwhm_px = 2.5F;
    if (step == 8) c.measured[1].e1 = 0.1F;
    if (step == 9) c.residual[1].assign(psf_kernel_px * psf_kernel_px, 1e-5F);
    if (step == 10) c.nonstellar_residual[0].assign(psf_kernel_px * psf_kernel_px, 1e-5F);
  };
  for (int step = 0; step < 11; ++step) {
    change(step);
    const Guides fresh = guides_in(view, part, c, 1), kept = guides_in(view, part, c, 1, &memory);
    EXPECT_TRUE(same(*fresh.stellar, *kept.stellar)) << step;
    EXPECT_TRUE(same(*fresh.nonstellar, *kept.nonstellar)) << step;
    EXPECT_LE(memory.stellar.size(), 2U);
  }
  // and it is remembered: a star control leaves the other planes alone
  const auto before = guides_in(view, part, c, 1, &memory);
  c.sharpen_stars = 0.6F;
  const auto after = guides_in(view, part, c, 1, &memory);
  EXPECT_EQ(before.nonstellar, after.nonstellar);
  EXPECT_NE(before.stellar, after.stellar);
}

TEST(Guides, ResidualMakesTheKernelWhole) {
  TileControls controls = controls_of(3, 0, 0.25F);
  std::vector<float> residual(psf_kernel_px * psf_kernel_px, 0);
  residual[32 * psf_kernel_px + 35] = 0.1F;
  const Image kernel = controls.measured[0].kernel(psf_kernel_px, residual);
  double sum = 0;
  for (const float value : kernel.pixels()) sum += static_cast<double>(value);
  EXPECT_NEAR(sum, 1, 1e-5);
  // a star with that lump comes out as the wanted one only if the lump is known
  auto tile = torch::zeros({3, 128, 128});
  tile.narrow(1, 32, 64).narrow(2, 32, 64).copy_(
      torch::from_blob(const_cast<float*>(kernel.pixels().data()), {64, 64}).expand({3, 64, 64}));
  const auto lump = [&] {
    return guide_planes(tile, controls)[nonstellar_guide_count][0][64][67].item<float>();
  };
  const float blind = lump();
  controls.residual.fill(residual);
  EXPECT_LT(std::abs(lump()), 0.3F * std::abs(blind));
}

TEST(Guides, FarWingsAreTheNonstellarPlanesAffairAlone) {
  torch::manual_seed(3);
  const auto tile = torch::randn({3, 128, 128}) * 5;
  TileControls controls = controls_of(3, 0.1F, 0.25F);
  const auto without = guide_planes(tile, controls);
  std::vector<float> wings(psf_kernel_px * psf_kernel_px, 1e-5F);
  controls.nonstellar_residual.fill(wings);
  EXPECT_FALSE(controls.shared_psf());
  const auto with = guide_planes(tile, controls);
  for (int k = 0; k < guide_count; ++k)
    EXPECT_EQ(torch::equal(with[k], without[k]), k >= nonstellar_guide_count) << k;
  // told as the residual they are nothing else
  TileControls both = controls_of(3, 0.1F, 0.25F);
  both.residual.fill(wings);
  const auto shared = guide_planes(tile, both);
  for (int k = 0; k < nonstellar_guide_count; ++k)
    EXPECT_TRUE(torch::allclose(with[k], shared[k], 1e-4, 1e-4)) << k;
}

TEST(Wanted, FollowsTheControls) {
  TileControls controls = controls_of(4, 0.2F, 0.4F);
  controls.adjust_halos = 0.5F;
  controls.sharpen_nonstellar = 0.5F;
  const WantedPsfs wanted = wanted_psfs(controls);
  EXPECT_FLOAT_EQ(wanted.stellar.fwhm_px, 4 * 0.6F);
  EXPECT_FLOAT_EQ(wanted.stellar.beta, 4 * std::exp2(-0.75F));
  EXPECT_FLOAT_EQ(wanted.nonstellar.fwhm_px, 2);
  EXPECT_FLOAT_EQ(wanted.stellar.ellipticity(), 0);
}

}  // namespace
}  // namespace limpid
