#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include <limpid/training.h>

#include "nn/model_file.h"
#include "train/reference.h"
#include "train/star_figures.h"

namespace limpid {
namespace {

SceneTensors nebula_scene(const SceneSimulator& simulator) {
  return simulator.draw_tensors(1, {.side_px = 128,
                                    .aberration = Aberration::none,
                                    .recording = Recording::plain,
                                    .fwhm_px = 3.5,
                                    .sharpen_nonstellar = 0.9,
                                    .stars = 0,
                                    .nebula = true,
                                    .nebula_peak = 200,
                                    .saturation = false,
                                    .correlated_noise = false,
                                    .mono = false,
                                    .sky_misjudged = false});
}

TEST(Reference, RichardsonLucySharpensAndTotalVariationSmoothes) {
  const SceneSimulator simulator({}, true, 5, 0, 1);
  const SceneTensors scene = nebula_scene(simulator);
  const auto plain = richardson_lucy(scene), varied = richardson_lucy(scene, 0.02);
  const auto error = [&](const torch::Tensor& x) {
    return (inner(x, 128) - inner(scene.ideal, 128)).square().mean().item<double>();
  };
  EXPECT_LT(error(plain.at(10)), error(scene.input));
  const auto roughness = [&](const torch::Tensor& x) {
    return inner(x, 128).diff(1, 2).abs().mean().item<double>();
  };
  EXPECT_LT(roughness(varied.at(40)), 0.98 * roughness(plain.at(40)));
  // light is neither made nor lost: Richardson-Lucy keeps the sum in every step
  EXPECT_NEAR(plain.at(20).mean().item<double>(), scene.input.mean().item<double>(), 0.05);
}

TEST(StarFigures, OfTheWantedPictureItselfAreRight) {
  const SceneSimulator simulator({}, true, 5, 0, 1);
  const SceneTensors scene = simulator.draw_tensors(2, {.side_px = 128,
                                                        .aberration = Aberration::none,
                                                        .recording = Recording::plain,
                                                        .fwhm_px = 3,
                                                        .sharpen_stars = 0.25,
                                                        .adjust_halos = 0,
                                                        .star_peak_min = 3000,
                                                        .star_peak_max = 3000,
                                                        .nebula = false,
                                                        .saturation = false,
                                                        .mono = false,
                                                        .isolated_stars = true,
                                                        .sky_misjudged = false});
  const auto input = inner(scene.input, 128), target = inner(scene.target, 128);
  const StarPictures pictures{.before = input,
                              .after = target,
                              .wanted = target,
                              .previous = {},
                              .fwhm_before = scene.true_psf[1].fwhm_px,
                              .fwhm_wanted = scene.wanted.stellar.fwhm_px};
  int judged = 0;
  for (const SimulatedStar& star : scene.stars) {
    const auto f = judge_star(pictures, star);
    if (!f) continue;
    ++judged;
    // what the narrower profile draws in of the wings beyond 3.5 FWHM
    EXPECT_GT(f->flux_error, 0);
    EXPECT_LT(f->flux_error, 0.04);
    EXPECT_EQ(f->flux_to_wanted, 0);
    // a thousandfold peak S/N: a thousandth of the width, and the noise is up to 20 times the sky's
    EXPECT_NEAR(f->fwhm_error, 0, 0.03);
    EXPECT_LT(f->centroid_after, 0.05);
    EXPECT_GT(f->ring, -0.01);
  }
  EXPECT_GT(judged, 5);
  // and of the input, that no light was gained
  StarPictures untouched = pictures;
  untouched.after = input;
  for (const SimulatedStar& star : scene.stars) {
    if (const auto f = judge_star(untouched, star)) {
      EXPECT_EQ(f->flux_error, 0);
    }
  }
}

std::filesystem::path untrained_weights(const std::string& name) {
  auto path = std::filesystem::temp_directory_path() /
              ("limpid_evaluate_" + name + std::to_string(::getpid()) + ".safetensors");
  const auto network = build_architecture("guided_unet", {});
  std::map<std::string, torch::Tensor> weights;
  for (const auto& item : network->named_parameters()) weights[item.key()] = item.value();
  ModelDescription about;
  about.name = "identity";
  about.architecture = "guided_unet";
  save_model(path, weights, about);
  return path;
}

TEST(Evaluate, UntrainedWeightsChangeNothingAndInventNothing) {
  const auto path = untrained_weights("identity");
  EvaluateOptions options;
  options.weights = path;
  options.scenes = 3;
  options.threads = 1;
  options.only = "noise";
  const Evaluation evaluation = evaluate(options);
  std::filesystem::remove(path);
  ASSERT_EQ(evaluation.nebulae.size(), 1U);
  EXPECT_EQ(evaluation.nebulae[0].label, "correlated noise");
  EXPECT_NEAR(evaluation.nebulae[0].network.value, 0, 1e-3);
  EXPECT_TRUE(std::isfinite(evaluation.nebulae[0].over_lucy.low));
  EXPECT_NEAR(evaluation.noise_change_sigma.value, 0, 1e-3);
  EXPECT_NEAR(evaluation.starless_megapixels, 6 * 192 * 192 * 1e-6, 1e-9);
  ASSERT_EQ(evaluation.stars.size(), 1U);
  // stars stay as wide as they were: asked for three quarters
  EXPECT_NEAR(1 + evaluation.stars[0].fwhm_ratio_error.value, 1 / 0.75, 0.05);
  EXPECT_NE(evaluation.table().find("correlated noise"), std::string::npos);
}

TEST(Evaluate, NetworkOnlyJudgesTheSameScenesWithoutYardsticks) {
  const auto path = untrained_weights("network_only");
  EvaluateOptions options;
  options.weights = path;
  options.scenes = 1;
  options.threads = 1;
  options.only = "trefoil";
  const Evaluation whole = evaluate(options);
  options.network_only = true;
  options.restore = [](ConstView, const TileControls&) -> Image {
    throw Error(ErrorKind::failed, "asked");
  };
  options.agree = [](ConstView, const StarCatalogue&, const TileControls&, MutableView) {
    throw Error(ErrorKind::failed, "asked");
  };
  const Evaluation quick = evaluate(options);
  std::filesystem::remove(path);
  ASSERT_EQ(quick.nebulae.size(), 1U);
  EXPECT_EQ(quick.nebulae[0].network.value, whole.nebulae[0].network.value);
  EXPECT_EQ(quick.nebulae[0].guide_low.value, whole.nebulae[0].guide_low.value);
  EXPECT_TRUE(std::isfinite(whole.nebulae[0].wiener_bound.value));
  EXPECT_FALSE(std::isfinite(quick.nebulae[0].wiener_bound.value));
  ASSERT_EQ(quick.stars.size(), 1U);
  EXPECT_EQ(quick.stars[0].fwhm_ratio_error.value, whole.stars[0].fwhm_ratio_error.value);
  EXPECT_EQ(quick.starless_megapixels, whole.starless_megapixels);
  EXPECT_NE(quick.table().find("| trefoil | "), std::string::npos);
}

}  // namespace
}  // namespace limpid
