#include "train/simulator.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <limpid/error.h>

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
  const Simulator a({}, false, 3, 2, 1), b({}, false, 3, 2, 2);
  const SceneOptions options{.side_px = 64};
  const SimulatedScene first = a.draw(5, options), second = b.draw(5, options),
                       other = a.draw(6, options);
  EXPECT_TRUE(std::equal(first.input.pixels().begin(), first.input.pixels().end(),
                         second.input.pixels().begin()));
  EXPECT_FALSE(std::equal(first.input.pixels().begin(), first.input.pixels().end(),
                          other.input.pixels().begin()));
}

TEST(Simulator, InputAndTargetShareTheirNoiseAndTheirLight) {
  const Simulator simulator({}, false, 3, 0, 1);
  SceneOptions options;
  options.side_px = 96;
  options.aberration = Aberration::guiding;
  options.fwhm_px = 3;
  options.nebula = false;
  options.stars = 0;
  options.saturation = false;
  const SceneTensors noise_alone = simulator.body().draw(0, options);
  EXPECT_TRUE(torch::equal(noise_alone.input, noise_alone.target));
  options.stars.reset();
  options.isolated_stars = true;
  options.star_peak_min = options.star_peak_max = 500;
  const SceneTensors stars = simulator.body().draw(1, options);
  ASSERT_FALSE(stars.stars.empty());
  EXPECT_NEAR(total(stars.blurred) / total(stars.ideal), 1, 0.01);
}

TEST(Simulator, MonoScenesHaveThreeEqualChannels) {
  const Simulator simulator({}, false, 3, 2, 1);
  const SceneTensors scene = simulator.body().draw(9, {.side_px = 64, .mono = true});
  EXPECT_TRUE(torch::equal(scene.input[0], scene.input[2]));
  EXPECT_TRUE(torch::equal(scene.target[0], scene.target[1]));
  EXPECT_TRUE(scene.controls.mono);
}

TEST(Corpus, StarsGoAndFilamentsStay) {
  auto sky = torch::full({3, 128, 128}, 0.2F);
  const auto x = torch::arange(128).to(torch::kFloat);
  sky += 0.3 * torch::exp(-(x - 40).square() / 18).view({1, 1, 128});  // a filament along y
  const auto star =
      torch::exp(-((x.view({1, 1, 128}) - 90).square() + (x.view({1, 128, 1}) - 64).square()) / 3);
  auto picture = (sky + 0.6 * star).contiguous();
  EXPECT_EQ(remove_stars(picture), 1);
  EXPECT_LT((picture - sky).abs().max().item<float>(), 0.03F);
}

TEST(Corpus, PacksByObjectAndReadsBack) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("limpid_corpus_" + std::to_string(::getpid()) + ".safetensors");
  CorpusBuilder builder(path, {.patch_px = 256, .max_megapixels = 10, .validation = {"held"}});
  Random random(1);
  for (const char* object : {"held out galaxy", "nebula"}) {
    CorpusSource source;
    source.name = source.object = object;
    source.image = to_image(draw_procedural(random, 300, 400).clamp(0, 0.9));
    builder.add(source);
  }
  const CorpusReport report = std::move(builder).finish();
  EXPECT_EQ(report.training_patches, 4);
  EXPECT_EQ(report.validation_patches, 4);
  const CorpusPatches patches = CorpusPatches::load(path, true);
  const auto drawn = patches.draw(random, 128);
  EXPECT_EQ(drawn.sizes(), (std::vector<std::int64_t>{3, 128, 128}));
  EXPECT_GE(drawn.min().item<float>(), 0);
  EXPECT_LE(drawn.max().item<float>(), 1);
  std::filesystem::remove(path);
}

TEST(Corpus, EightBitsTakeAQuarterOfTheBytesAndKeepThePicture) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("limpid_corpora_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const auto large = folder / "large", small = folder / "small", one = folder / "one";
  Random random(1);
  {
    CorpusBuilder builder(large, {.patch_px = 256, .max_megapixels = 10, .validation = {"held"}});
    for (const char* object : {"held out galaxy", "nebula"}) {
      CorpusSource source;
      source.name = source.object = object;
      source.image = to_image(draw_procedural(random, 512, 512).clamp(0, 0.9));
      builder.add(source);
    }
    std::move(builder).finish();
  }
  const auto repack = [&](const std::filesystem::path& output, double megabytes) {
    CorpusBuilder builder(output, {.max_megabytes = megabytes, .bits = 8, .validation = {}});
    builder.add_corpus(large);
    return std::move(builder).finish();
  };
  EXPECT_EQ(repack(small, 0).training_patches, 4);
  EXPECT_NEAR(static_cast<double>(std::filesystem::file_size(small)) /
                  static_cast<double>(std::filesystem::file_size(large)),
              0.25, 0.01);
  const CorpusPatches before = CorpusPatches::load(large, true),
                      after = CorpusPatches::load(small, true);
  EXPECT_NE(before.hash(), after.hash());
  for (int i = 0; i < 4; ++i) {
    const auto miss = after.patch(i) - before.patch(i);
    // a step is 1/255; where colours change within two pixels or leave [0,1] more is lost
    const auto light = ((miss[0] + 2 * miss[1] + miss[2]) / 4).abs();
    EXPECT_LT(light.mean().item<float>(), 0.5F / 255);
    EXPECT_LT(miss.square().mean().sqrt().item<float>(), 0.015F);
  }
  const CorpusReport few = repack(one, 0.6);
  EXPECT_LE(std::filesystem::file_size(one), 600'000U);
  EXPECT_GT(few.training_patches, 0);
  EXPECT_LT(few.training_patches + few.validation_patches, 8);
  std::filesystem::remove_all(folder);
}

TEST(Trainer, GoesOnFromACheckpointBitForBit) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("limpid_train_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  TrainOptions options;
  options.widths = {16, 16};
  options.blocks = {0, 1, 1};
  options.batch = 2;
  options.reuse = 1;
  options.patch_px = 64;
  options.psf_bank = 4;
  options.threads = 1;
  options.warm_up_steps = 2;
  options.decay_fraction = 0;
  const auto run = [&](const char* name, std::int64_t steps, bool resume) {
    TrainOptions o = options;
    o.output = folder / name;
    o.steps = steps;
    o.resume = resume;
    train(o);
    std::ifstream stream(o.output, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  };
  const std::string straight = run("straight.safetensors", 6, false);
  run("halved.safetensors", 3, false);
  const std::string halved = run("halved.safetensors", 6, true);
  EXPECT_EQ(straight, halved);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace limpid
