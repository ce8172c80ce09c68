#include "train/simulator.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

double total(const torch::Tensor& x) { return x.to(torch::kDouble).sum().item<double>(); }

TEST(Pupil, SeeingAloneHasTheWidthAskedFor) {
  Optics optics;
  optics.diffraction_px = 0.3;
  optics.seeing_fwhm_px = 3;
  const auto psf = render_psf(optics);
  EXPECT_NEAR(total(central_phase(psf)), 1, 2e-3);
  const auto described = describe_psf(psf);
  ASSERT_TRUE(described);
  // Kolmogorov's profile is no Moffat: 2 %; a diffraction disc of 0.3 px adds half a per cent
  EXPECT_NEAR(described->fwhm_px, 3, 0.09);
  EXPECT_LT(described->ellipticity(), 0.01F);
}

TEST(Pupil, GuidingStretchesAlongItsDirection) {
  Optics optics;
  optics.seeing_fwhm_px = 3;
  optics.jitter_px = 1.2;
  optics.motion_angle_rad = 0.5;
  const auto described = describe_psf(render_psf(optics));
  ASSERT_TRUE(described);
  EXPECT_GT(described->ellipticity(), 0.2F);
  EXPECT_NEAR(described->angle_rad(), 0.5, 0.03);
}

TEST(Pupil, MoffatPhasesEachHoldAllTheLight) {
  Psf psf;
  psf.fwhm_px = 2.5F;
  psf.beta = 3;
  const auto over = oversampled_moffat(psf);
  for (int i = 0; i < psf_oversampling; ++i) {
    for (int j = 0; j < psf_oversampling; ++j) {
      const auto phase = over.slice(0, i, {}, psf_oversampling).slice(1, j, {}, psf_oversampling);
      EXPECT_NEAR(total(phase), 1, 3e-3) << i << ' ' << j;
    }
  }
}

TEST(Simulator, SameSeedAndIndexGiveTheSameScene) {
  const SceneSimulator a({}, false, 3, 2, 1), b({}, false, 3, 2, 2);
  const SceneOptions options{.side_px = 64};
  const SimulatedScene first = a.draw(5, options), second = b.draw(5, options),
                       other = a.draw(6, options);
  EXPECT_TRUE(std::equal(first.input.pixels().begin(), first.input.pixels().end(),
                         second.input.pixels().begin()));
  EXPECT_FALSE(std::equal(first.input.pixels().begin(), first.input.pixels().end(),
                          other.input.pixels().begin()));
}

TEST(Simulator, InputAndTargetShareTheirNoiseAndTheirLight) {
  const SceneSimulator simulator({}, false, 3, 0, 1);
  SceneOptions options;
  options.side_px = 96;
  options.aberration = Aberration::guiding;
  options.fwhm_px = 3;
  options.nebula = false;
  options.stars = 0;
  options.saturation = false;
  const SceneTensors noise_alone = simulator.draw_tensors(0, options);
  EXPECT_TRUE(torch::equal(noise_alone.input, noise_alone.target));
  options.stars.reset();
  options.isolated_stars = true;
  options.star_peak_min = options.star_peak_max = 500;
  const SceneTensors stars = simulator.draw_tensors(1, options);
  ASSERT_FALSE(stars.stars.empty());
  EXPECT_NEAR(total(stars.blurred) / total(stars.ideal), 1, 0.01);
}

TEST(Simulator, MonoScenesHaveThreeEqualChannels) {
  const SceneSimulator simulator({}, false, 3, 2, 1);
  const SceneTensors scene = simulator.draw_tensors(9, {.side_px = 64, .mono = true});
  EXPECT_TRUE(torch::equal(scene.input[0], scene.input[2]));
  EXPECT_TRUE(torch::equal(scene.target[0], scene.target[1]));
  EXPECT_TRUE(scene.controls.mono);
}

}  // namespace
}  // namespace limpid
