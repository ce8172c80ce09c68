#include "nn/convolution.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <type_traits>
#include <vector>

#include "arithmetic_kinds.h"
#include "nn/architecture.h"
#include "nn/mixing.h"
#include "nn/tensors.h"
#include "nn/unet_on_cpu.h"

namespace limpid {
namespace {

struct Shape {
  std::int64_t inputs, outputs, side, stride;
};
/// Every number of channels that are summed up together, and what the network has.
constexpr std::array shapes{Shape{16, 16, 1, 1}, Shape{32, 32, 3, 1}, Shape{96, 48, 3, 1},
                            Shape{48, 64, 3, 2}, Shape{352, 96, 1, 1}};

template <typename Value>
constexpr torch::ScalarType type_of =
    std::is_same_v<Value, float> ? torch::kFloat : torch::kBFloat16;
template <typename Value>
Value* values_of(const torch::Tensor& x) {
  if constexpr (std::is_same_v<Value, float>) {
    return x.data_ptr<float>();
  } else {
    return bfloats_of(x);
  }
}

torch::Tensor rounded(const torch::Tensor& x) { return x.to(torch::kBFloat16).to(torch::kFloat); }

/// As LibTorch has it, in double precision but for the steps that are rounded.
torch::Tensor slow(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                   std::int64_t stride, bool narrow) {
  const auto sums = torch::conv2d(x.to(torch::kDouble), weight.to(torch::kDouble),
                                  bias.to(torch::kDouble), stride, weight.size(2) / 2)
                        .to(torch::kFloat);
  return narrow ? rounded(sums) : sums;
}

template <typename Of>
class Convolved : public testing::Test {
 protected:
  using Value = typename Of::Type;
  static constexpr bool narrow = Of::narrow;
  void SetUp() override {
    if (!has_convolutions(Of::by)) GTEST_SKIP() << "not on this processor";
    torch::manual_seed(3);
  }
  [[nodiscard]] static torch::Tensor some(at::IntArrayRef size) {
    const auto x = torch::randn(size);
    return narrow ? rounded(x) : x;
  }
  /// A row of places, as Convolution sees it.
  [[nodiscard]] static torch::Tensor laid(const torch::Tensor& row) {
    return row.t().contiguous().to(type_of<Value>);
  }
  const torch::NoGradGuard no_grad;
};
TYPED_TEST_SUITE(Convolved, Kinds);

TYPED_TEST(Convolved, AgreesWithLibTorchForEveryWidth) {
  using Number = typename TestFixture::Value;
  constexpr bool rounds = TestFixture::narrow;
  for (const Shape& shape : shapes) {
    const auto weight = this->some({shape.outputs, shape.inputs, shape.side, shape.side}),
               bias = this->some({shape.outputs});
    const Convolution<Number> convolution(to_parameter(weight), to_parameter(bias), shape.stride,
                                          rounds, TypeParam::by);
    for (std::int64_t width = 2; width <= 28; width += 2) {
      const auto x = this->some({1, shape.inputs, 6, width});
      Activations<Number> in(6, width, shape.inputs);
      for (std::int64_t y = 0; y < 6; ++y) {
        const auto row = this->laid(x[0].select(1, y));
        std::copy_n(values_of<Number>(row), row.numel(), in.at(y, 0));
      }
      const auto wanted = slow(x, weight, bias, shape.stride, rounds)[0].permute({1, 2, 0});
      auto made = torch::empty(wanted.sizes(), type_of<Number>);
      for (std::int64_t y = 0; y < wanted.size(0); ++y) {
        convolution.row(in.at(y * shape.stride, 0), in.row_step(), wanted.size(1),
                        values_of<Number>(made[y]), shape.outputs);
      }
      const auto found = made.to(torch::kFloat);
      // sums of up to 864 products of unit size; with bfloat16 one may fall on the other side of
      // the middle between two values, 2^-7 of it apart
      EXPECT_TRUE(torch::allclose(found, wanted, rounds ? 0.008 : 0, 2e-4))
          << shape.inputs << " to " << shape.outputs << " channels, " << width << " places";
      EXPECT_LT((found != wanted).to(torch::kFloat).mean().template item<float>(),
                rounds ? 0.01F : 1.0F);
    }
  }
}

TYPED_TEST(Convolved, ShiftThenResidualThenRectification) {
  using Number = typename TestFixture::Value;
  constexpr bool rounds = TestFixture::narrow;
  const auto weight = this->some({32, 16, 1, 1}), bias = this->some({32}), shift = this->some({32}),
             x = this->some({1, 16, 1, 7}), residual = this->some({7, 32});
  const auto step = [&](const torch::Tensor& y) { return rounds ? rounded(y) : y; };
  const auto sums = slow(x, weight, bias, 1, rounds)[0].select(1, 0).t();
  const auto wanted = torch::relu(step(residual + step(sums + shift)));
  const auto in = this->laid(x[0].select(1, 0));
  auto found = residual.to(type_of<Number>, /*non_blocking=*/false, /*copy=*/true);
  auto* const out = values_of<Number>(found);
  Convolution<Number>(to_parameter(weight), to_parameter(bias), 1, rounds, TypeParam::by)
      .row(values_of<Number>(in), 0, 7, out, 32,
           {.shift = shift.template data_ptr<float>(), .residual = out, .rectified = true});
  EXPECT_TRUE(torch::allclose(found.to(torch::kFloat), wanted, rounds ? 0.016 : 0, 2e-5));
}

TEST(Convolution, FloatsThatHoldBfloatsGiveTheSameBits) {
  if (!has_convolutions(Arithmetic::bfloats)) GTEST_SKIP() << "not on this processor";
  const torch::NoGradGuard no_grad;
  torch::manual_seed(5);
  const auto weight = rounded(torch::randn({48, 96, 1, 1})), bias = rounded(torch::randn({48})),
             in = rounded(torch::randn({31, 96}));
  auto floats = torch::empty({31, 48}), bfloats = torch::empty({31, 48}, torch::kBFloat16);
  Convolution<float>(to_parameter(weight), to_parameter(bias), 1, true, Arithmetic::floats_by_16)
      .row(in.data_ptr<float>(), 0, 31, floats.data_ptr<float>(), 48);
  Convolution<BFloat16>(to_parameter(weight), to_parameter(bias), 1, true, Arithmetic::bfloats)
      .row(bfloats_of(in.to(torch::kBFloat16)), 0, 31, bfloats_of(bfloats), 48);
  EXPECT_TRUE(torch::equal(floats, bfloats.to(torch::kFloat)));
}

struct Network {
  std::shared_ptr<Architecture> layers;
  Parameters parameters;
  torch::Tensor picture, controls;
  std::vector<Plane> planes;
};
constexpr Size picture_size{144, 112};
const std::vector<int> block_counts{1, 2, 1};

Network some_network(torch::ScalarType type) {
  torch::manual_seed(4);
  Network network{
      .layers = build_architecture("guided_unet", {{32, 48}, block_counts}),
      .parameters = {},
      .picture = torch::randn({plane_count, picture_size.height, picture_size.width}) * 20,
      .controls = torch::randn({1, control_count}),
      .planes = {}};
  for (auto& parameter : network.layers->parameters())
    torch::nn::init::uniform_(parameter, -0.05, 0.05);
  network.layers->to(type);
  for (const auto& item : network.layers->named_parameters())
    network.parameters[item.key()] = to_parameter(item.value());
  for (int p = 0; p < plane_count; ++p)
    network.planes.push_back({network.picture[p].data_ptr<float>(), picture_size.width});
  return network;
}

/// The kinds of values and whether they are rounded, of those that this processor has.
std::vector<std::pair<Arithmetic, bool>> kinds_here() {
  std::vector<std::pair<Arithmetic, bool>> kinds;
  for (const auto& [by, narrow] : {std::pair{Arithmetic::floats_by_8, false},
                                   {Arithmetic::floats_by_8, true},
                                   {Arithmetic::floats_by_16, false},
                                   {Arithmetic::floats_by_16, true},
                                   {Arithmetic::bfloats, true}}) {
    if (has_convolutions(by)) kinds.emplace_back(by, narrow);
  }
  return kinds;
}

torch::Tensor run(const UnetOnCpu& own, const Network& network, Rect part) {
  const auto numbers = to_parameter(network.controls).values;
  return to_tensor(own.run(network.planes, picture_size, part, numbers, 2).view());
}

constexpr Rect whole_picture{0, 0, picture_size.width, picture_size.height};
torch::Tensor by_layers(const Network& network) {
  return network.layers->infer(network.planes, picture_size, whole_picture, network.controls);
}
torch::Tensor by_own(const Network& network, bool narrow, Arithmetic by) {
  return run(*make_unet_on_cpu(network.parameters, block_counts, narrow, by), network,
             whole_picture);
}

TEST(UnetOnCpu, GivesWhatItsLayersGive) {
  const torch::NoGradGuard no_grad;
  const Network network = some_network(torch::kFloat);
  const auto plain = by_layers(network);
  const auto changed = (plain - network.picture.narrow(0, 0, 3)).abs().mean();
  EXPECT_GT(changed.item<float>(), 1);
  for (const auto& [by, narrow] : kinds_here()) {
    if (narrow) continue;
    // the last bits of sums
    EXPECT_LT(((by_own(network, false, by) - plain).abs().mean() / changed).item<float>(), 1e-6F)
        << static_cast<int>(by);
  }
}

TEST(UnetOnCpu, RoundsLessThanItsLayersDoInBfloat16) {
  const torch::NoGradGuard no_grad;
  const auto exact = by_layers(some_network(torch::kFloat));
  const Network network = some_network(torch::kBFloat16);
  const auto miss = [&](const torch::Tensor& x) {
    return (x - exact).square().mean().sqrt().item<float>();
  };
  const float of_layers = miss(by_layers(network));
  torch::Tensor first;
  for (const auto& [by, narrow] : kinds_here()) {
    if (!narrow) continue;
    const auto made = by_own(network, true, by);
    EXPECT_LT(miss(made), of_layers) << static_cast<int>(by);
    if (first.numel() == 0) first = made;
    // products of bfloat16s are exact, and all add up in one order
    EXPECT_TRUE(torch::equal(made, first)) << static_cast<int>(by);
  }
}

TEST(UnetOnCpu, APartComesOutTheSame) {
  const torch::NoGradGuard no_grad;
  for (const auto& [by, narrow] : kinds_here()) {
    const Network network = some_network(torch::kFloat);
    const auto own = make_unet_on_cpu(network.parameters, block_counts, narrow, by);
    const auto whole = run(*own, network, {0, 0, picture_size.width, picture_size.height});
    for (const Rect part : {Rect{56, 40, 24, 32}, Rect{0, 0, 4, 4}, Rect{140, 0, 4, 112},
                            Rect{12, 108, 60, 4}, Rect{68, 52, 4, 4}}) {
      EXPECT_TRUE(torch::equal(run(*own, network, part), cropped(whole, part)))
          << part.x << ' ' << part.y;
    }
  }
}

}  // namespace
}  // namespace limpid
