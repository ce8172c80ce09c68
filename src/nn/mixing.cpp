#include "nn/mixing.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/lanes.h"
#include "nn/architecture.h"
#include "nn/light_view.h"
#include "nn/tensors.h"

namespace limpid {
namespace {

torch::Tensor rows(const torch::Tensor& x) { return x.permute({0, 2, 3, 1}); }
bool on_cpu(const torch::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == torch::kFloat;
}

/// Calls body(pixel, light, told, out) for every block; all three are contiguous rows of channels.
template <typename Body>
void for_each_block(std::int64_t count, const Body& body) {
  at::parallel_for(0, count, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) body(i);
  });
}

class Mix : public torch::autograd::Function<Mix> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& planes, const torch::Tensor& answer,
                               std::int64_t guides, std::int64_t colour) {
    const auto light = rows(planes).contiguous(), told = rows(answer).contiguous();
    context->save_for_backward({light});
    context->saved_data["guides"] = guides;
    context->saved_data["colour"] = colour;
    auto out = torch::empty({light.size(0), light.size(1), light.size(2), colour}, light.options());
    const float* l = light.data_ptr<float>();
    const float* t = told.data_ptr<float>();
    float* o = out.data_ptr<float>();
    const auto light_step = light.size(3), told_step = told.size(3);
    for_each_block(light.numel() / light_step, [&](std::int64_t i) {
      const float* tile = l + i * light_step;
      const float* alpha = t + i * told_step;
      float* result = o + i * colour;
      const float* bright = tile + guides * colour;
      const float* residual = alpha + guides * colour;
      for (std::int64_t j = 0; j < colour; ++j) {
        result[j] = tile[j] + residual[j] * residual_scale(tile[j], bright[j]);
      }
      for (std::int64_t k = 0; k < guides; ++k) {
        const float* guide = tile + (k + 1) * colour;
        for (std::int64_t j = 0; j < colour; ++j)
          result[j] += alpha[k * colour + j] * (guide[j] - tile[j]);
      }
    });
    return out.permute({0, 3, 1, 2});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto light = context->get_saved_variables()[0];
    const auto guides = context->saved_data["guides"].toInt(),
               colour = context->saved_data["colour"].toInt();
    const auto gradient = rows(gradients[0]).contiguous();
    const auto told_step = (guides + 1) * colour, light_step = light.size(3);
    auto result =
        torch::empty({light.size(0), light.size(1), light.size(2), told_step}, light.options());
    const float* l = light.data_ptr<float>();
    const float* g = gradient.data_ptr<float>();
    float* r = result.data_ptr<float>();
    for_each_block(light.numel() / light_step, [&](std::int64_t i) {
      const float* tile = l + i * light_step;
      const float* by_out = g + i * colour;
      float* by_alpha = r + i * told_step;
      const float* bright = tile + guides * colour;
      for (std::int64_t k = 0; k < guides; ++k) {
        const float* guide = tile + (k + 1) * colour;
        for (std::int64_t j = 0; j < colour; ++j)
          by_alpha[k * colour + j] = by_out[j] * (guide[j] - tile[j]);
      }
      for (std::int64_t j = 0; j < colour; ++j) {
        by_alpha[guides * colour + j] = by_out[j] * residual_scale(tile[j], bright[j]);
      }
    });
    return {torch::Tensor(), result.permute({0, 3, 1, 2}), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor compressed(const torch::Tensor& planes) {
  if (!on_cpu(planes)) {
    const auto quarter = (planes.square() + view_knee * view_knee).sqrt().sqrt();
    return planes * 0.5 / (quarter * quarter.sqrt());
  }
  const auto light = rows(planes).contiguous();
  auto seen = torch::empty_like(light);
  const float* in = light.data_ptr<float>();
  float* out = seen.data_ptr<float>();
  at::parallel_for(0, light.numel(), 16384, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += float_lane_count) {
      const auto count =
          static_cast<std::size_t>(std::min<std::int64_t>(float_lane_count, end - i));
      store_some(out + i, seen_as(load_some(in + i, count)), count);
    }
  });
  return seen.permute({0, 3, 1, 2});
}

torch::Tensor mix_guides(const torch::Tensor& planes, const torch::Tensor& answer, int guides,
                         int colour) {
  if (on_cpu(planes) && on_cpu(answer)) return Mix::apply(planes, answer, guides, colour);
  const auto light = rows(planes), told = rows(answer);
  const auto tile = light.narrow(3, 0, colour);
  const auto planes_of = [&](const torch::Tensor& x, std::int64_t start) {
    return x.narrow(3, start, guides * colour).unflatten(3, at::IntArrayRef({guides, colour}));
  };
  const auto guide = planes_of(light, colour);
  const auto scale =
      (tile.square() + guide.select(3, guides - 1).square() + residual_knee * residual_knee).sqrt();
  return (tile + (planes_of(told, 0) * (guide - tile.unsqueeze(3))).sum(3) +
          told.narrow(3, guides * colour, colour) * scale)
      .permute({0, 3, 1, 2});
}

torch::Tensor compressed_blocks(const std::vector<Plane>& planes, std::int64_t height,
                                std::int64_t width, torch::ScalarType type) {
  const std::int64_t rows_of_blocks = height / block_px, blocks = width / block_px;
  const auto channels = static_cast<std::int64_t>(planes.size()) * block_area;
  auto seen =
      torch::empty({1, rows_of_blocks, blocks, channels}, torch::TensorOptions().dtype(type));
  at::parallel_for(0, rows_of_blocks, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto begins = row * blocks * channels;
      if (type == torch::kBFloat16) {
        compress_block_row(planes, width, row, true, bfloats_of(seen) + begins);
      } else {
        compress_block_row(planes, width, row, false, seen.data_ptr<float>() + begins);
      }
    }
  });
  return seen.permute({0, 3, 1, 2});
}

torch::Tensor mix_planes(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                         const torch::Tensor& answer, int guides) {
  const auto told = rows(answer).contiguous();
  auto mixed = torch::empty({3, height, width});
  const std::int64_t step = width / block_px * told.size(3);
  at::parallel_for(0, height / block_px, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* const out = mixed.data_ptr<float>();
      if (told.scalar_type() == torch::kBFloat16) {
        mix_block_row(planes, height, width, row, bfloats_of(told) + row * step, guides, out);
      } else {
        mix_block_row(planes, height, width, row, told.data_ptr<float>() + row * step, guides, out);
      }
    }
  });
  return mixed;
}

}  // namespace limpid
