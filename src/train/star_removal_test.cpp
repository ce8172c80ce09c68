#include "train/star_removal.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(StarRemoval, StarsGoAndFilamentsStay) {
  auto sky = torch::full({3, 128, 128}, 0.2F);
  const auto x = torch::arange(128).to(torch::kFloat);
  sky += 0.3 * torch::exp(-(x - 40).square() / 18).view({1, 1, 128});  // a filament along y
  const auto star =
      torch::exp(-((x.view({1, 1, 128}) - 90).square() + (x.view({1, 128, 1}) - 64).square()) / 3);
  auto picture = (sky + 0.6 * star).contiguous();
  EXPECT_EQ(remove_stars(picture), 1);
  EXPECT_LT((picture - sky).abs().max().item<float>(), 0.03F);
}

}  // namespace
}  // namespace limpid
