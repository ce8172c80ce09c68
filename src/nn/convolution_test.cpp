#include "nn/convolution.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "nn/architecture.h"
#include "nn/mixing.h"

namespace limpid {
namespace {

struct Shape {
  std::int64_t inputs, outputs, side, stride;
};
/// Every number of channels that are summed up together, and what the network has.
constexpr std::array shapes{Shape{16, 16, 1, 1}, Shape{32, 32, 3, 1}, Shape{96, 48, 3, 1},
                            Shape{48, 64, 3, 2}, Shape{352, 96, 1, 1}};

torch::Tensor rounded(const torch::Tensor& x) { return x.to(torch::kBFloat16).to(torch::kFloat); }

/// As LibTorch has it, in double precision but for the steps that are rounded.
torch::Tensor slow(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                   std::int64_t stride, bool narrow) {
  const auto sums = torch::conv2d(x.to(torch::kDouble), weight.to(torch::kDouble),
                                  bias.to(torch::kDouble), stride, weight.size(2) / 2)
                        .to(torch::kFloat);
  return narrow ? rounded(sums) : sums;
}

class Convolved : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!own_convolutions_pay(false)) GTEST_SKIP() << "no AVX-512";
    torch::manual_seed(3);
  }
  [[nodiscard]] torch::Tensor some(at::IntArrayRef size) const {
    const auto x = torch::randn(size);
    return narrow ? rounded(x) : x;
  }
  const torch::NoGradGuard no_grad;
  const bool narrow = GetParam();
};
INSTANTIATE_TEST_SUITE_P(Precision, Convolved, testing::Bool());

TEST_P(Convolved, AgreesWithLibTorchForEveryWidth) {
  for (const Shape& shape : shapes) {
    const auto weight = some({shape.outputs, shape.inputs, shape.side, shape.side}),
               bias = some({shape.outputs});
    const Convolution convolution(weight, bias, shape.stride, narrow);
    for (std::int64_t width = 2; width <= 28; width += 2) {
      const auto x = some({1, shape.inputs, 6, width});
      Activations in(6, width, shape.inputs);
      for (std::int64_t y = 0; y < 6; ++y) {
        const auto row = x[0].select(1, y).t().contiguous();
        std::copy_n(row.data_ptr<float>(), row.numel(), in.at(y, 0));
      }
      const auto wanted = slow(x, weight, bias, shape.stride, narrow)[0].permute({1, 2, 0});
      auto found = torch::empty(wanted.sizes());
      for (std::int64_t y = 0; y < wanted.size(0); ++y) {
        convolution.row(in.at(y * shape.stride, 0), in.row_step(), wanted.size(1),
                        found[y].data_ptr<float>(), shape.outputs);
      }
      // sums of up to 864 products of unit size; with bfloat16 one may fall on the other side of
      // the middle between two values, 2^-7 of it apart
      EXPECT_TRUE(torch::allclose(found, wanted, narrow ? 0.008 : 0, 2e-4))
          << shape.inputs << " to " << shape.outputs << " channels, " << width << " places";
      EXPECT_LT((found != wanted).to(torch::kFloat).mean().item<float>(), narrow ? 0.01F : 1.0F);
    }
  }
}

TEST_P(Convolved, ShiftThenResidualThenRectification) {
  const auto weight = some({32, 16, 1, 1}), bias = some({32}), shift = some({32}),
             x = some({1, 16, 1, 7}), residual = some({7, 32});
  const auto step = [&](const torch::Tensor& y) { return narrow ? rounded(y) : y; };
  const auto sums = slow(x, weight, bias, 1, narrow)[0].select(1, 0).t();
  const auto wanted = torch::relu(step(residual + step(sums + shift)));
  const auto in = x[0].select(1, 0).t().contiguous();
  auto found = residual.clone();
  Convolution(weight, bias, 1, narrow)
      .row(in.data_ptr<float>(), 0, 7, found.data_ptr<float>(), 32,
           {.shift = shift.data_ptr<float>(),
            .residual = found.data_ptr<float>(),
            .rectified = true});
  EXPECT_TRUE(torch::allclose(found, wanted, narrow ? 0.016 : 0, 2e-5));
}

/// LibTorch adds up in the same order only where it has the instruction for bfloat16.
TEST(UnetOnCpu, GivesWhatItsLayersGive) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(4);
  for (const auto type : {torch::kFloat, torch::kBFloat16}) {
    if (!own_convolutions_pay(type == torch::kBFloat16)) continue;
    const auto network = build_architecture("guided_unet", {{32, 48}, {1, 2, 1}});
    for (auto& parameter : network->parameters()) torch::nn::init::uniform_(parameter, -0.05, 0.05);
    network->to(type);
    const auto picture = torch::randn({plane_count, 48, 72}) * 20;
    const auto controls = torch::randn({1, control_count});
    std::vector<Plane> planes;
    for (int p = 0; p < plane_count; ++p) planes.push_back({picture[p].data_ptr<float>(), 72});
    const auto plain = network->infer(planes, 48, 72, controls);
    network->settle();
    const auto own = network->infer(planes, 48, 72, controls);
    const auto changed = (plain - picture.narrow(0, 0, 3)).abs().mean();
    EXPECT_GT(changed.item<float>(), 1);
    // rounding: of the last bits of sums, which flips a bfloat16 in ten thousand
    EXPECT_LT(((own - plain).abs().mean() / changed).item<float>(), 1e-4F) << type;
  }
}

}  // namespace
}  // namespace limpid
