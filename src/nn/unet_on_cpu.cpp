#include "nn/unet_on_cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>

#include "nn/architecture.h"

namespace limpid {
namespace {

using Parameters = std::map<std::string, torch::Tensor>;

Convolution layer(const Parameters& from, const std::string& name, std::int64_t stride,
                  bool narrow) {
  return {from.at(name + ".weight"), from.at(name + ".bias"), stride, narrow};
}

/// Calls body(y, scratch) for every row, with room for so many values.
template <typename Body>
void for_each_row(std::int64_t count, std::int64_t scratch_values, const Body& body) {
  at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
    const auto scratch =
        std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(scratch_values));
    for (std::int64_t y = begin; y < end; ++y) body(y, scratch.get());
  });
}

/// Every place of `to`.
void convolve(const Convolution& by, const Activations& from, std::int64_t stride, Activations& to,
              const Finish& finish) {
  for_each_row(to.height(), 0, [&](std::int64_t y, float*) {
    by.row(from.at(y * stride, 0), from.row_step(), to.width(), to.at(y, 0), to.channels(), finish);
  });
}

}  // namespace

UnetOnCpu::UnetOnCpu(const Parameters& parameters, const std::vector<int>& blocks, bool narrow)
    : narrow_(narrow),
      stem_(layer(parameters, "stem", 1, narrow)),
      down_(layer(parameters, "down", 2, narrow)),
      head_(layer(parameters, "head", 1, narrow)) {
  for (std::int64_t place = 0; place < 4; ++place) {
    // a pixel shuffle takes the four places of one channel from neighbouring ones
    const auto of_place = [&](const char* name) {
      return parameters.at(name).unflatten(0, at::IntArrayRef({-1, 4})).select(1, place);
    };
    up_.emplace_back(of_place("up.weight"), of_place("up.bias"), 1, narrow);
  }
  const auto read = [&](const std::string& name, int count, std::vector<ResidualBlock>& into) {
    for (int i = 0; i < count; ++i) {
      const std::string block = name + '.' + std::to_string(i);
      into.push_back({layer(parameters, block + ".first", 1, narrow),
                      layer(parameters, block + ".second", 1, narrow)});
    }
  };
  read("encoder", blocks.at(0), encoder_);
  read("middle", blocks.at(1), middle_);
  read("decoder", blocks.at(2), decoder_);
}

void UnetOnCpu::run_blocks(const std::vector<ResidualBlock>& blocks, Activations& x) {
  if (blocks.empty()) return;
  Activations between(x.height(), x.width(), x.channels());
  for (const auto& block : blocks) {
    convolve(block.first, x, 1, between, {.rectified = true});
    for_each_row(x.height(), 0, [&](std::int64_t y, float*) {
      block.second.row(between.at(y, 0), between.row_step(), x.width(), x.at(y, 0), x.channels(),
                       {.residual = x.at(y, 0)});
    });
  }
}

torch::Tensor UnetOnCpu::run(const std::vector<Plane>& planes, std::int64_t height,
                             std::int64_t width, const torch::Tensor& stem_shift,
                             const torch::Tensor& down_shift) const {
  const auto stem = stem_shift.to(torch::kFloat).contiguous(),
             down = down_shift.to(torch::kFloat).contiguous();
  Activations local(height / block_px, width / block_px, stem_.outputs());
  Activations wide(local.height() / 2, local.width() / 2, down_.outputs());
  const auto per_place = static_cast<std::int64_t>(planes.size()) * block_area;
  for_each_row(local.height(), local.width() * per_place, [&](std::int64_t y, float* seen) {
    compress_block_row(planes, width, y, narrow_, seen);
    stem_.row(seen, 0, local.width(), local.at(y, 0), local.channels(),
              {.shift = stem.data_ptr<float>(), .rectified = true});
  });
  run_blocks(encoder_, local);
  convolve(down_, local, 2, wide, {.shift = down.data_ptr<float>(), .rectified = true});
  run_blocks(middle_, wide);
  for_each_row(local.height(), 0, [&](std::int64_t y, float*) {
    for (std::int64_t x = 0; x < 2; ++x) {
      up_[static_cast<std::size_t>(2 * (y % 2) + x)].row(wide.at(y / 2, 0), 0, wide.width(),
                                                         local.at(y, x), 2 * local.channels(),
                                                         {.residual = local.at(y, x)});
    }
  });
  run_blocks(decoder_, local);
  auto mixed = torch::empty({3, height, width});
  const std::int64_t bent_values = local.width() * local.channels();
  const auto mix = [&](std::int64_t y, float* bent) {
    float* told = bent + bent_values;
    std::transform(local.at(y, 0), local.at(y, local.width()), bent,
                   [](float value) { return value < 0 ? 0.0F : value; });
    head_.row(bent, 0, local.width(), told, head_.outputs());
    mix_block_row(planes, height, width, y, told, guide_count, mixed.data_ptr<float>());
  };
  for_each_row(local.height(), bent_values + local.width() * head_.outputs(), mix);
  return mixed;
}

}  // namespace limpid
