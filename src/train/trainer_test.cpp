#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <limpid/training.h>

namespace limpid {
namespace {

/// The least work there is, in a folder that goes with it.
class Trainer : public ::testing::Test {
 protected:
  Trainer() {
    std::filesystem::create_directory(folder);
    options.widths = {16, 16};
    options.blocks = {0, 1, 1};
    options.batch = 2;
    options.reuse = 1;
    options.patch_px = 64;
    options.psf_bank = 4;
    options.threads = 1;
    options.warm_up_steps = 2;
    options.decay_fraction = 0;
  }
  ~Trainer() override { std::filesystem::remove_all(folder); }

  std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("limpid_train_" + std::to_string(::getpid()));
  TrainOptions options;
};

TEST_F(Trainer, GoesOnFromACheckpointBitForBit) {
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
}

TEST_F(Trainer, EveryLineOfTheLogHasALossToCompareWithTheLastOneToo) {
  options.output = folder / "logged.safetensors";
  options.steps = 7;
  options.log_seconds = 1e-9;
  std::vector<TrainState> lines;
  train(options, [&](const TrainState& state) { lines.push_back(state); });
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines.back().step, options.steps);
  for (const TrainState& line : lines) EXPECT_GT(line.identity_loss, 0) << "step " << line.step;
}

}  // namespace
}  // namespace limpid
