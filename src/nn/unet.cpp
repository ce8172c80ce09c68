// A small U-Net that mixes linear guide planes pixel by pixel and adds what they cannot give.
#include <memory>

#include "nn/architecture.h"
#include "nn/mixing.h"
#include "nn/parameters.h"

namespace limpid {
namespace {

using torch::nn::Conv2d;
using torch::nn::Conv2dOptions;

class ResidualBlockImpl : public torch::nn::Module {
 public:
  explicit ResidualBlockImpl(int width)
      : first_(register_module("first", Conv2d(Conv2dOptions(width, width, 3).padding(1)))),
        second_(register_module("second", Conv2d(Conv2dOptions(width, width, 3).padding(1)))) {}
  torch::Tensor forward(const torch::Tensor& x) {
    return x + second_->forward(torch::relu(first_->forward(x)));
  }

 private:
  Conv2d first_, second_;
};
TORCH_MODULE(ResidualBlock);

class GuidedUnet : public Architecture {
 public:
  explicit GuidedUnet(const ArchitectureOptions& o)
      : options_(o),
        stem_(Conv2d(Conv2dOptions(plane_count * block_area, o.widths[0], 1))),
        stem_controls_(control_count, o.widths[0]),
        down_(Conv2d(Conv2dOptions(o.widths[0], o.widths[1], 3).stride(2).padding(1))),
        down_controls_(control_count, o.widths[1]),
        up_(Conv2d(Conv2dOptions(o.widths[1], 4 * o.widths[0], 1))),
        head_(Conv2d(Conv2dOptions(o.widths[0], (3 * guide_count + 3) * block_area, 1))) {
    register_module("stem", stem_);
    register_module("stem_controls", stem_controls_);
    register_module("down", down_);
    register_module("down_controls", down_controls_);
    register_module("up", up_);
    register_module("head", head_);
    register_module("encoder", encoder_);
    register_module("middle", middle_);
    register_module("decoder", decoder_);
    for (int i = 0; i < o.blocks[0]; ++i) encoder_->push_back(ResidualBlock(o.widths[0]));
    for (int i = 0; i < o.blocks[1]; ++i) middle_->push_back(ResidualBlock(o.widths[1]));
    for (int i = 0; i < o.blocks[2]; ++i) decoder_->push_back(ResidualBlock(o.widths[0]));
    // Untrained, the network returns the tile as it came.
    torch::nn::init::zeros_(head_->weight);
    torch::nn::init::zeros_(head_->bias);
    torch::nn::init::zeros_(up_->bias);
  }

  torch::Tensor forward(const torch::Tensor& planes, const torch::Tensor& controls) override {
    const auto answer = answer_to(compressed(planes).to(stem_->weight.scalar_type()), controls);
    return mix_guides(planes, answer.to(torch::kFloat), guide_count, 3 * block_area);
  }

  torch::Tensor infer(const std::vector<Plane>& planes, Size size, Rect wanted,
                      const torch::Tensor& controls) override {
    const auto seen =
        compressed_blocks(planes, size.height, size.width, stem_->weight.scalar_type());
    return cropped(
        mix_planes(planes, size.height, size.width, answer_to(seen, controls), guide_count),
        wanted);
  }

  double multiply_adds_per_pixel() const override {
    const double a = options_.widths[0], b = options_.widths[1];
    const double fine = plane_count * block_area * a + (3 * guide_count + 3) * block_area * a +
                        18 * a * a * (options_.blocks[0] + options_.blocks[2]);
    const double coarse = 9 * a * b + 4 * a * b + 18 * b * b * options_.blocks[1];
    return fine / block_area + coarse / (4 * block_area);
  }

 private:
  /// How much of each guide plane to take, and what none of them has, pixel by pixel.
  torch::Tensor answer_to(const torch::Tensor& seen, const torch::Tensor& controls) {
    const auto c = controls.to(stem_->weight.scalar_type());
    const auto bend = [&](const torch::Tensor& x, torch::nn::Linear& layer) {
      return torch::relu(x + layer->forward(c).unsqueeze(-1).unsqueeze(-1));
    };
    const auto local = run(encoder_, bend(stem_->forward(seen), stem_controls_));
    const auto wide = run(middle_, bend(down_->forward(local), down_controls_));
    const auto mixed = run(decoder_, local + torch::pixel_shuffle(up_->forward(wide), 2));
    return head_->forward(torch::relu(mixed));
  }

  static torch::Tensor run(torch::nn::Sequential& blocks, const torch::Tensor& x) {
    return blocks->is_empty() ? x : blocks->forward(x);
  }

  ArchitectureOptions options_;
  Conv2d stem_;
  torch::nn::Linear stem_controls_;
  Conv2d down_;
  torch::nn::Linear down_controls_;
  Conv2d up_, head_;
  torch::nn::Sequential encoder_, middle_, decoder_;
};

}  // namespace

std::shared_ptr<Architecture> build_guided_unet(const ArchitectureOptions& options) {
  guided_unet_shapes(options);  // refuses nonsense
  return std::make_shared<GuidedUnet>(options);
}

}  // namespace limpid
