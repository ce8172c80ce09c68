#include "train/corpus.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include <limpid/error.h>
#include <limpid/training.h>

#include "nn/weights.h"
#include "nn/tensors.h"
#include "train/procedural.h"

namespace limpid {
namespace {

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

TEST(Corpus, RefusesWhatIsNone) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("limpid_no_corpus_" + std::to_string(::getpid()) + ".safetensors");
  const auto patches = torch::zeros({2, 3, 8, 8}, torch::kShort);
  const auto sound = [&] {
    return TensorFile{{{"training", patches}, {"validation", patches}},
                      {{"kind", "limpid corpus 1"},
                       {"linear", R"({"training": [true, false], "validation": [false, true]})"}}};
  };
  const auto loads = [&](const TensorFile& file) {
    write_safetensors(path, file);
    try {
      (void)CorpusPatches::load(path, false);
      return true;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      return false;
    }
  };
  EXPECT_TRUE(loads(sound()));
  std::vector<TensorFile> damaged(7, sound());
  damaged[0].tensors["training"] = torch::zeros({0, 3, 8, 8}, torch::kShort);
  damaged[1].tensors["training"] = torch::zeros({2, 3, 8, 4}, torch::kShort);
  damaged[2].tensors["training"] = torch::zeros({2, 1, 8, 8}, torch::kShort);
  damaged[3].tensors["training"] = torch::zeros({2}, torch::kShort);
  damaged[4].metadata["linear"] = R"({"validation": [false, true]})";
  damaged[5].metadata["linear"] = R"({"training": [1, 2], "validation": [false, true]})";
  damaged[6].metadata["kind"] = "limpid corpus 2";
  for (const TensorFile& file : damaged) EXPECT_FALSE(loads(file)) << &file - damaged.data();
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace limpid
