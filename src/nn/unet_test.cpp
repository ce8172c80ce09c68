#include <gtest/gtest.h>

#include <filesystem>

#include <limpid/error.h>

#include "nn/architecture.h"
#include "nn/engine.h"
#include "nn/mixing.h"
#include "nn/model_file.h"
#include "nn/tensors.h"

namespace limpid {
namespace {

torch::Tensor planes(int n) {
  torch::manual_seed(5);
  return (torch::randn({n, 8, 8, plane_count * block_area}) * 20).permute({0, 3, 1, 2});
}

TEST(GuidedUnet, UntrainedReturnsTheTile) {
  const auto network = build_architecture("guided_unet", {});
  const auto light = planes(2);
  const auto out = network->forward(light, torch::randn({2, control_count}));
  EXPECT_TRUE(torch::allclose(out, light.narrow(1, 0, 3 * block_area), 0, 1e-5));
}

TEST(GuidedUnet, UnknownOrNonsenseShapesAreBadModels) {
  EXPECT_THROW(build_architecture("transformer", {}), Error);
  EXPECT_THROW(build_architecture("guided_unet", {{48}, {0, 1, 1}}), Error);
  EXPECT_THROW(build_architecture("guided_unet", {{48, -1}, {0, 1, 1}}), Error);
  EXPECT_THROW(build_architecture("guided_unet", {{48, 96}, {0, 1, 1000}}), Error);
}

TEST(Blocks, ComeBackAsTheyWere) {
  const auto picture = torch::randn({3, 24, 16});
  EXPECT_TRUE(torch::equal(from_blocks(to_blocks(picture)), picture));
}

TEST(Mixing, AgreesWithTheFormulaWrittenPlainly) {
  const int colour = 3 * block_area;
  const auto light = planes(1);
  const auto answer = torch::randn({1, 8, 8, (guide_count + 1) * colour})
                          .permute({0, 3, 1, 2})
                          .detach()
                          .requires_grad_();
  const auto tile = light.narrow(1, 0, colour);
  auto slow = tile.clone();
  for (int k = 0; k < guide_count; ++k) {
    slow = slow + answer.narrow(1, k * colour, colour) *
                      (light.narrow(1, (k + 1) * colour, colour) - tile);
  }
  const auto bright = light.narrow(1, guide_count * colour, colour);
  slow = slow + answer.narrow(1, guide_count * colour, colour) *
                    (900 + tile.square() + bright.square()).sqrt();
  const auto fast = mix_guides(light, answer, guide_count, colour);
  EXPECT_TRUE(torch::allclose(fast, slow, 1e-4, 1e-3));
  const auto weight = torch::randn_like(slow);
  const auto by_fast = torch::autograd::grad({(fast * weight).sum()}, {answer})[0];
  const auto by_slow = torch::autograd::grad({(slow * weight).sum()}, {answer})[0];
  EXPECT_TRUE(torch::allclose(by_fast, by_slow, 1e-4, 1e-3));
}

TEST(GuidedUnet, InferenceAgreesWithTheTrainedForm) {
  const torch::NoGradGuard no_grad;
  const auto network = build_architecture("guided_unet", {{16, 16}, {0, 1, 1}});
  for (auto& parameter : network->parameters()) torch::nn::init::uniform_(parameter, -0.05, 0.05);
  const auto picture = torch::randn({plane_count, 48, 64}) * 20;
  const auto controls = torch::randn({1, control_count});
  std::vector<Plane> planes;
  for (int p = 0; p < plane_count; ++p) planes.push_back({picture[p].data_ptr<float>(), 64});
  const auto trained = from_blocks(network->forward(to_blocks(picture), controls));
  EXPECT_TRUE(torch::allclose(network->infer(planes, {64, 48}, {0, 0, 64, 48}, controls), trained,
                              1e-3, 1e-3));
  EXPECT_TRUE(
      torch::allclose(network->Architecture::infer(planes, {64, 48}, {0, 0, 64, 48}, controls),
                      trained, 1e-3, 1e-3));
  network->to(torch::kBFloat16);
  const auto narrow = network->infer(planes, {64, 48}, {0, 0, 64, 48}, controls);
  EXPECT_LT((narrow - trained).abs().mean().item<float>(),
            0.03F * (trained - picture.narrow(0, 0, 3)).abs().mean().item<float>());
}

TEST(Mixing, ViewIsOddAndRisesEverywhere) {
  const auto x = torch::linspace(-1e5, 1e5, 16384).view({1, 1, 1, 16384}).permute({0, 3, 1, 2});
  const auto seen = compressed(x).flatten();
  EXPECT_TRUE((seen.narrow(0, 1, 16383) > seen.narrow(0, 0, 16383)).all().item<bool>());
  EXPECT_TRUE(torch::allclose(seen, -seen.flip(0), 1e-4, 1e-4));
}

TEST(Parameters, HaveTheNamesAndShapesOfTheLayers) {
  for (const ArchitectureOptions& options :
       {ArchitectureOptions{}, ArchitectureOptions{{8, 12}, {2, 0, 3}}}) {
    ParameterShapes wanted;
    for (const auto& item : build_architecture("guided_unet", options)->named_parameters())
      wanted[item.key()] = item.value().sizes().vec();
    EXPECT_EQ(guided_unet_shapes(options), wanted);
  }
}

TEST(ModelFile, AddedBlocksChangeNothing) {
  torch::manual_seed(7);
  const auto small = build_architecture("guided_unet", {{8, 12}, {0, 1, 1}});
  std::map<std::string, torch::Tensor> tensors;
  {
    const torch::NoGradGuard no_grad;
    for (const auto& item : small->named_parameters())
      tensors[item.key()] = item.value().normal_(0, 0.1).clone();
  }
  const auto large = build_architecture("guided_unet", {{8, 12}, {1, 1, 2}});
  add_missing_blocks(*large, tensors);
  load_parameters(*large, tensors, "", "memory");
  EXPECT_GT(large->parameters().size(), small->parameters().size());

  const auto controls = torch::randn({2, control_count});
  EXPECT_TRUE(
      torch::equal(small->forward(planes(2), controls), large->forward(planes(2), controls)));
}

TEST(ModelFile, WeightsOfOneGuidePlaneLessTakeNothingOfTheNewest) {
  torch::manual_seed(8);
  const torch::NoGradGuard no_grad;
  const auto network = build_architecture("guided_unet", {{8, 12}, {0, 1, 1}});
  constexpr std::int64_t plane = 3 * block_area;
  Parameters parameters;
  for (const auto& item : network->named_parameters())
    parameters[item.key()] = to_parameter(item.value().normal_(0, 0.1));
  const auto take_out = [&](const std::string& name, int dimension, std::int64_t at) {
    const auto x = to_tensor(parameters.at(name));
    const auto after = at + plane;
    parameters[name] = to_parameter(torch::cat(
        {x.narrow(dimension, 0, at), x.narrow(dimension, after, x.size(dimension) - after)},
        dimension));
  };
  take_out("stem.weight", 1, (1 + newest_guide) * plane);
  take_out("head.weight", 0, newest_guide * plane);
  take_out("head.bias", 0, newest_guide * plane);
  add_missing_plane(parameters);
  check_parameters(parameters, guided_unet_shapes({{8, 12}, {0, 1, 1}}), "memory");
  load_parameters(*network, to_tensors(parameters), "", "memory");

  const auto controls = torch::randn({2, control_count});
  const auto some = planes(2);
  auto other = some.clone();
  other.narrow(1, (1 + newest_guide) * plane, plane).normal_(0, 100);
  EXPECT_TRUE(torch::equal(network->forward(some, controls), network->forward(other, controls)));
  auto unlike = some.clone();
  unlike.narrow(1, (2 + newest_guide) * plane, plane).normal_(0, 100);
  EXPECT_FALSE(torch::equal(network->forward(some, controls), network->forward(unlike, controls)));
}

TEST(Engine, LibTorchStartsWhileTheCallerGoesOnAndAgrees) {
  torch::manual_seed(9);
  NetworkFile file;
  file.info.architecture = "guided_unet";
  file.info.metadata = {{"widths", "16,32"}, {"blocks", "0,1,1"}};
  for (const auto& [name, shape] : guided_unet_shapes(shape_of(file.info)))
    file.parameters[name] = to_parameter(torch::randn(shape) * 0.05);
  TileControls controls;
  for (Psf& psf : controls.measured) psf = {.fwhm_px = 3, .beta = 4};
  controls.nonstellar = controls.measured;
  const auto light = to_image(torch::randn({3, 128, 160}) * 20),
             clipped = to_image(torch::zeros({1, 64, 96}));
  const auto run = [&](const Engine& engine) {
    return to_tensor(
        engine.run(light.view(), clipped.view(), controls, {16, 8, 64, 48}, 2, nullptr).view());
  };
  const auto started = start_torch_engine(file, Precision::f32),
             plain = make_cpu_engine(file, Precision::f32);
  EXPECT_EQ(started->device_text(), plain->device_text());
  const auto wanted = run(*started);
  EXPECT_EQ(wanted.sizes(), at::IntArrayRef({3, 48, 64}));
  EXPECT_TRUE(torch::allclose(run(*plain), wanted, 1e-3, 1e-3));
}

TEST(ModelFile, KeepsWeightsToHalfPrecisionAndRefusesOtherShapes) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("limpid_model_" + std::to_string(::getpid()) + ".safetensors");
  const auto network = build_architecture("guided_unet", {});
  std::map<std::string, torch::Tensor> weights;
  for (const auto& item : network->named_parameters())
    weights[item.key()] = torch::randn_like(item.value());
  ModelDescription about;
  about.name = "limpid-9";
  about.architecture = "guided_unet";
  about.shape = {};
  about.steps = 12;
  save_model(path, weights, about);
  const Model model = load_model(path);
  EXPECT_EQ(model.info.name, "limpid-9");
  EXPECT_EQ(model.info.steps, 12);
  for (const auto& item : model.network->named_parameters()) {
    // float16 keeps 11 bits
    EXPECT_TRUE(torch::allclose(item.value(), weights[item.key()], 1e-3, 1e-6)) << item.key();
  }
  EXPECT_EQ(Network::load(path, {Device::Kind::cpu, 0}).info().parameters, model.info.parameters);
  about.shape.widths = {32, 96};
  save_model(path, weights, about);
  EXPECT_THROW(load_model(path), Error);
  EXPECT_THROW(Network::load(path, {Device::Kind::cpu, 0}), Error);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace limpid
