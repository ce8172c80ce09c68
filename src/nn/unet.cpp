// A small U-Net that mixes linear guide planes pixel by pixel and adds what they cannot give. What
// it decides on blocks of pixels a few layers at full resolution may refine.
#include <algorithm>

#include <limpid/error.h>

#include "nn/architecture.h"
#include "nn/mixing.h"

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

/// Layers at full resolution: how planes differ pixel by pixel, beside what the blocks have found.
class FineImpl : public torch::nn::Module {
 public:
  FineImpl(int width, int fine)
      : context_(register_module("context",
                                 Conv2d(Conv2dOptions(width, context_planes * block_area, 1)))),
        first_(register_module(
            "first", Conv2d(Conv2dOptions(difference_count + context_planes, fine, 3).padding(1)))),
        second_(register_module("second", Conv2d(Conv2dOptions(fine, second_width, 3).padding(1)))),
        head_(register_module("head", Conv2d(Conv2dOptions(second_width, answer_count, 1)))) {
    // A network that had no such layers goes on from where it was.
    torch::nn::init::zeros_(head_->weight);
    torch::nn::init::zeros_(head_->bias);
  }
  /// `found`: (N, width, h, w); `differences`: (N, difference_count, H, W). In blocks, like
  /// answers.
  torch::Tensor forward(const torch::Tensor& found, const torch::Tensor& differences) {
    const auto context = torch::pixel_shuffle(context_->forward(found), block_px);
    const auto seen = torch::cat({differences.to(context.scalar_type()), context}, 1);
    const auto bent = torch::relu(second_->forward(torch::relu(first_->forward(seen))));
    return torch::pixel_unshuffle(head_->forward(bent), block_px);
  }
  static double multiply_adds_per_pixel(int width, int fine) {
    return context_planes * width + 9.0 * fine * (difference_count + context_planes) +
           9.0 * fine * second_width + second_width * answer_count;
  }

 private:
  static constexpr int context_planes = 6, second_width = 16, answer_count = 3 * (guide_count + 1);
  Conv2d context_, first_, second_, head_;
};
TORCH_MODULE(Fine);

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
    if (o.widths.size() > 2) fine_ = register_module("fine", Fine(o.widths[0], o.widths[2]));
    // Untrained, the network returns the tile as it came.
    torch::nn::init::zeros_(head_->weight);
    torch::nn::init::zeros_(head_->bias);
    torch::nn::init::zeros_(up_->bias);
  }

  torch::Tensor forward(const torch::Tensor& planes, const torch::Tensor& controls) override {
    const auto type = stem_->weight.scalar_type();
    const auto differences = fine_ ? differences_of(planes).to(type) : torch::Tensor();
    const auto answer = answer_to(compressed(planes).to(type), differences, controls);
    return mix_guides(planes, answer.to(torch::kFloat), guide_count, 3 * block_area);
  }

  torch::Tensor infer(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                      const torch::Tensor& controls) override {
    const auto type = stem_->weight.scalar_type();
    const auto seen = compressed_blocks(planes, height, width, type);
    const auto differences = fine_ ? differences_of(planes, height, width, type) : torch::Tensor();
    return mix_planes(planes, height, width, answer_to(seen, differences, controls), guide_count);
  }

  double multiply_adds_per_pixel() const override {
    const double a = options_.widths[0], b = options_.widths[1];
    const double fine = plane_count * block_area * a + (3 * guide_count + 3) * block_area * a +
                        18 * a * a * (options_.blocks[0] + options_.blocks[2]);
    const double coarse = 9 * a * b + 4 * a * b + 18 * b * b * options_.blocks[1];
    const double finest =
        fine_ ? FineImpl::multiply_adds_per_pixel(options_.widths[0], options_.widths[2]) : 0;
    return fine / block_area + coarse / (4 * block_area) + finest;
  }

 private:
  /// How much of each guide plane to take, and what none of them has, pixel by pixel.
  torch::Tensor answer_to(const torch::Tensor& seen, const torch::Tensor& differences,
                          const torch::Tensor& controls) {
    const auto c = controls.to(stem_->weight.scalar_type());
    const auto bend = [&](const torch::Tensor& x, torch::nn::Linear& layer) {
      return torch::relu(x + layer->forward(c).unsqueeze(-1).unsqueeze(-1));
    };
    const auto local = run(encoder_, bend(stem_->forward(seen), stem_controls_));
    const auto wide = run(middle_, bend(down_->forward(local), down_controls_));
    const auto mixed = run(decoder_, local + torch::pixel_shuffle(up_->forward(wide), 2));
    const auto found = torch::relu(mixed);
    const auto answer = head_->forward(found);
    return fine_ ? answer + fine_->forward(found, differences) : answer;
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
  Fine fine_{nullptr};
};

}  // namespace

std::shared_ptr<Architecture> build_guided_unet(const ArchitectureOptions& options) {
  const auto positive = [](const std::vector<int>& v) {
    return std::all_of(v.begin(), v.end(), [](int n) { return n > 0 && n <= 4096; });
  };
  const auto counts = [](const std::vector<int>& v) {
    return std::all_of(v.begin(), v.end(), [](int n) { return n >= 0 && n <= 64; });
  };
  if (options.widths.size() < 2 || options.widths.size() > 3 || options.blocks.size() != 3 ||
      !positive(options.widths) || !counts(options.blocks)) {
    throw Error(ErrorKind::bad_model,
                "guided_unet needs two or three widths and three block counts");
  }
  return std::make_shared<GuidedUnet>(options);
}

}  // namespace limpid
