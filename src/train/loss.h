// What the trainer counts as wrong.
#pragma once

#include <torch/torch.h>

#include <limpid/training.h>

namespace limpid {

/// Error in units of what can be told apart, per scene, (N): the noise, and a share of the light;
/// of pixels, of the differences between neighbouring pixels' errors, and of the means of blocks
/// (flux), 4 px wide, 8, 16 and so on: what is missing in a star's wings is little in every pixel
/// and much in all. The target's light sets the scale. Both: (N, 3 * block_area, h, w), blocks laid
/// into channels.
torch::Tensor scene_losses(const torch::Tensor& answer, const torch::Tensor& target,
                           const TrainOptions& options);

/// Mean of (N) losses; with a floor the geometric mean of loss plus floor.
torch::Tensor over_scenes(const torch::Tensor& losses, double floor);

}  // namespace limpid
