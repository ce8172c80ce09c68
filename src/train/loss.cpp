#include "train/loss.h"

#include <algorithm>

#include "nn/architecture.h"

namespace limpid {
namespace {

/// Under this error, in units of what can be told apart, the square counts besides.
constexpr double large_error = 4;

torch::Tensor mean_of_scenes(const torch::Tensor& x) { return x.mean(at::IntArrayRef({1, 2, 3})); }

/// |e| and a multiple of Huber's function (1964, Ann. Math. Statist. 35, 73), mean over each scene.
/// The absolute value alone pulls as hard at a sky pixel wrong by a hundredth as at a star's core
/// wrong by ten: stars, few among many pixels, stayed too wide.
torch::Tensor mean_error(const torch::Tensor& relative, double large_error_weight) {
  const auto size = relative.abs();
  if (large_error_weight <= 0) return mean_of_scenes(size);
  const auto capped = size.clamp_max(large_error);
  return mean_of_scenes(size + large_error_weight * capped * (size - 0.5 * capped));
}

/// Differences between neighbouring pixels of a picture, those of different blocks too.
torch::Tensor mean_slope(const torch::Tensor& blocks) {
  const auto n = blocks.size(0), h = blocks.size(2), w = blocks.size(3);
  const auto picture = blocks.permute({0, 2, 3, 1})
                           .reshape({n, h, w, 3, block_px, block_px})
                           .permute({0, 3, 1, 4, 2, 5})
                           .reshape({n, 3, h * block_px, w * block_px});
  return mean_of_scenes(picture.diff(1, 2).abs()) + mean_of_scenes(picture.diff(1, 3).abs());
}

torch::Tensor block_means(const torch::Tensor& x) {
  return x.permute({0, 2, 3, 1})
      .unflatten(3, at::IntArrayRef({3, block_area}))
      .mean(4)
      .permute({0, 3, 1, 2});
}

}  // namespace

torch::Tensor scene_losses(const torch::Tensor& answer, const torch::Tensor& target,
                           const TrainOptions& o) {
  const auto error = answer - target;
  const auto relative = error / (1 + (o.relative_weight * target).square()).sqrt();
  auto losses = mean_error(relative, o.large_error_weight);
  // seen as a picture: an error that jumps, at the border of a block above all, shows as an edge
  if (o.slope_weight > 0) losses = losses + 0.5 * o.slope_weight * mean_slope(relative);
  if (o.flux_weight <= 0) return losses;
  auto missed = block_means(error), light = block_means(target);
  int side = block_px;
  for (int level = 0;; side *= 2) {
    const auto block_noise = (1.0 / (side * side) + (o.relative_weight * light).square()).sqrt();
    // as many noise units of a block as of its pixels would make it outweigh them: divide by the
    // side
    losses = losses + o.flux_weight / side * mean_error(missed / block_noise, o.large_error_weight);
    if (++level >= o.flux_levels || std::min(missed.size(2), missed.size(3)) < 2) break;
    missed = torch::avg_pool2d(missed, 2);
    light = torch::avg_pool2d(light, 2);
  }
  return losses;
}

torch::Tensor over_scenes(const torch::Tensor& losses, double floor) {
  return floor > 0 ? (losses + floor).log().mean().exp() : losses.mean();
}

}  // namespace limpid
