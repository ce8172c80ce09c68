#include "train/batches.h"

#include <gtest/gtest.h>

#include "nn/architecture.h"

namespace limpid {
namespace {

constexpr int side = 64;

TrainOptions options_of(int batch, int reuse) {
  TrainOptions options;
  options.batch = batch;
  options.reuse = reuse;
  options.patch_px = side;
  options.threads = 1;
  return options;
}

TEST(Batches, HoldEachSceneOfTheirStepTurned) {
  const SceneSimulator simulator({}, false, 3, 2, 1);
  Batches batches(simulator, options_of(2, 1), 0);
  for (std::uint64_t step = 0; step < 2; ++step) {
    const auto batch = batches.next();
    for (std::int64_t i = 0; i < 2; ++i) {
      const auto scene =
          simulator.draw_tensors(2 * step + static_cast<std::uint64_t>(i), {.side_px = side});
      const auto target = inner(scene.target, side);
      const auto is_this = [&](int turn) {
        const auto wanted = to_blocks(turned(target, turn).contiguous())[0];
        return torch::equal(batch.target[i], wanted);
      };
      int alike = 0;
      for (int turn = 0; turn < 8; ++turn) alike += is_this(turn) ? 1 : 0;
      EXPECT_EQ(alike, 1) << step << ' ' << i;
    }
  }
}

TEST(Batches, FromALaterStepOnAreWhatTheyWouldHaveBeen) {
  const SceneSimulator simulator({}, false, 3, 2, 1);
  const TrainOptions options = options_of(4, 2);
  Batches all(simulator, options, 0), later(simulator, options, 3);
  for (int step = 0; step < 3; ++step) (void)all.next();
  const auto first = all.next(), second = later.next();
  EXPECT_TRUE(torch::equal(first.planes, second.planes));
  EXPECT_TRUE(torch::equal(first.controls, second.controls));
}

}  // namespace
}  // namespace limpid
