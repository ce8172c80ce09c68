#include "nn/mixing.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#ifdef __AVX__
#include <immintrin.h>
#endif

#include "core/lanes.h"
#include "nn/architecture.h"

namespace limpid {
namespace {

/// Brightness, in units of the noise, at which the view changes from linear to compressed.
constexpr float view_knee = 3.0F;
/// Brightness at which the residual's scale changes from noise units to a share of the light.
constexpr float residual_knee = 30.0F;

/// s^(-1/2) to twelve bits or better.
inline FloatLanes rough_inverse_root(FloatLanes s) {
#ifdef __AVX__
  return _mm256_rsqrt_ps(s);
#else
  for (int i = 0; i < float_lane_count; ++i) s[i] = 1 / std::sqrt(s[i]);
  return s;
#endif
}
/// How the network sees light, see mixing.h, to 1e-6 of it: a rough s^(-3/8) and a step of Newton's
/// towards f^8 s^3 = 1.
inline FloatLanes seen_as(FloatLanes light) {
  const FloatLanes s = light * light + view_knee * view_knee;
  const FloatLanes half = rough_inverse_root(s), quarter = half * rough_inverse_root(half);
  const FloatLanes rough = quarter * quarter * rough_inverse_root(quarter);
  const FloatLanes square = rough * rough, near_half = square * square * s;
  return light * (rough * (0.5F + (1 - near_half * near_half * s) * (0.5F / 8)));
}
/// What the network's residual counts in: see mixing.h.
inline float residual_scale(float tile, float bright) {
  return std::sqrt(residual_knee * residual_knee + tile * tile + bright * bright);
}

FloatLanes residual_scales(FloatLanes tile, FloatLanes bright) {
  FloatLanes scales = residual_knee * residual_knee + tile * tile + bright * bright;
  for (int i = 0; i < float_lane_count; ++i) scales[i] = std::sqrt(scales[i]);
  return scales;
}

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

namespace {

/// c10::BFloat16 does the same one by one: rounded to the nearest, to even ones between two.
void store_as(std::span<const float> values, std::span<c10::BFloat16> out) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16U) & 1U)) >> 16U;
    constexpr std::uint32_t no_number = 0x7fc0, infinite = 0x7f800000;
    const bool is_nan = (bits & 0x7fffffffU) > infinite;
    out[i].x = static_cast<std::uint16_t>(is_nan ? no_number : rounded);
  }
}
void store_as(std::span<const float> values, std::span<float> out) {
  std::ranges::copy(values, out.begin());
}

/// Half a block: two rows of four pixels.
static_assert(block_px == 4 && float_lane_count == 2 * block_px);
using Row = float __attribute__((vector_size(block_px * sizeof(float))));

FloatLanes half_block(const float* at, std::int64_t stride) {
  Row first, second;
  std::memcpy(&first, at, sizeof first);
  std::memcpy(&second, at + stride, sizeof second);
  return __builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7);
}
void store_half_block(float* at, std::int64_t stride, FloatLanes values) {
  const Row first = __builtin_shufflevector(values, values, 0, 1, 2, 3),
            second = __builtin_shufflevector(values, values, 4, 5, 6, 7);
  std::memcpy(at, &first, sizeof first);
  std::memcpy(at + stride, &second, sizeof second);
}

FloatLanes floats_at(const float* from) { return load_floats(from); }
FloatLanes floats_at(const c10::BFloat16* from) {
  using Halves = std::uint16_t __attribute__((vector_size(float_lane_count * 2)));
  using Bits = std::uint32_t __attribute__((vector_size(float_lane_count * 4)));
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return reinterpret_cast<FloatLanes>(__builtin_convertvector(halves, Bits) << 16U);
}

/// `Stored`: what they are rounded to.
template <typename Stored, typename Value>
void compress_rows(const std::vector<Plane>& planes, std::int64_t width, std::int64_t block_row,
                   Value* out) {
  const auto count = static_cast<std::int64_t>(planes.size()), blocks = width / block_px;
  std::vector<float> line(static_cast<std::size_t>(blocks * block_area));
  std::vector<Stored> stored(line.size());
  for (std::int64_t p = 0; p < count; ++p) {
    const Plane& plane = planes[static_cast<std::size_t>(p)];
    for (std::int64_t i = 0; i < block_px; ++i) {
      const float* in = plane.first + (block_row * block_px + i) * plane.stride;
      float* to = line.data() + i * block_px;
      for (std::int64_t b = 0; b < blocks; ++b)
        std::copy_n(in + b * block_px, block_px, to + b * block_area);
    }
    for (std::size_t i = 0; i < line.size(); i += float_lane_count)
      store_floats(&line[i], seen_as(load_floats(&line[i])));
    store_as(line, stored);
    for (std::int64_t b = 0; b < blocks; ++b) {
      std::copy_n(&stored[static_cast<std::size_t>(b * block_area)], block_area,
                  out + (b * count + p) * block_area);
    }
  }
}

template <typename Value>
void mix_rows(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
              std::int64_t block_row, const Value* told, int guides, float* out) {
  constexpr std::int64_t channels = 3, half_rows = block_px / 2;
  const std::int64_t colour = channels * block_area, step = (guides + 1) * colour,
                     blocks = width / block_px;
  std::vector<Plane> at(static_cast<std::size_t>(guides + 1));  // the tile, its guide planes
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t half = 0; half < 2; ++half) {
      const std::int64_t y = block_row * block_px + half * half_rows;
      for (std::size_t k = 0; k < at.size(); ++k) {
        const Plane& plane = planes[k * channels + static_cast<std::size_t>(c)];
        at[k] = {plane.first + y * plane.stride, plane.stride};
      }
      float* const result = out + (c * height + y) * width;
      const Value* answer = told + c * block_area + half * float_lane_count;
      for (std::int64_t x = 0; x < blocks * block_px; x += block_px, answer += step) {
        const auto seen = [&](const Plane& plane) {
          return half_block(plane.first + x, plane.stride);
        };
        const FloatLanes tile = seen(at.front());
        FloatLanes mixed =
            tile + floats_at(answer + guides * colour) * residual_scales(tile, seen(at.back()));
        for (int k = 0; k < guides; ++k)
          mixed +=
              floats_at(answer + k * colour) * (seen(at[static_cast<std::size_t>(k + 1)]) - tile);
        store_half_block(result + x, width, mixed);
      }
    }
  }
}

}  // namespace

torch::Tensor compressed_blocks(const std::vector<Plane>& planes, std::int64_t height,
                                std::int64_t width, torch::ScalarType type) {
  const std::int64_t rows_of_blocks = height / block_px, blocks = width / block_px;
  const auto channels = static_cast<std::int64_t>(planes.size()) * block_area;
  auto seen =
      torch::empty({1, rows_of_blocks, blocks, channels}, torch::TensorOptions().dtype(type));
  at::parallel_for(0, rows_of_blocks, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      if (type == torch::kBFloat16) {
        compress_rows<c10::BFloat16>(planes, width, row,
                                     seen.data_ptr<c10::BFloat16>() + row * blocks * channels);
      } else {
        compress_rows<float>(planes, width, row, seen.data_ptr<float>() + row * blocks * channels);
      }
    }
  });
  return seen.permute({0, 3, 1, 2});
}

void compress_block_row(const std::vector<Plane>& planes, std::int64_t width,
                        std::int64_t block_row, bool narrow, float* out) {
  (narrow ? compress_rows<c10::BFloat16, float> : compress_rows<float, float>)(planes, width,
                                                                               block_row, out);
}
void compress_block_row(const std::vector<Plane>& planes, std::int64_t width,
                        std::int64_t block_row, [[maybe_unused]] bool narrow, c10::BFloat16* out) {
  assert(narrow);
  compress_rows<c10::BFloat16>(planes, width, block_row, out);
}

void mix_block_row(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                   std::int64_t block_row, const float* told, int guides, float* out) {
  mix_rows(planes, height, width, block_row, told, guides, out);
}
void mix_block_row(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                   std::int64_t block_row, const c10::BFloat16* told, int guides, float* out) {
  mix_rows(planes, height, width, block_row, told, guides, out);
}

torch::Tensor mix_planes(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                         const torch::Tensor& answer, int guides) {
  const auto told = rows(answer).contiguous();
  auto mixed = torch::empty({3, height, width});
  const std::int64_t step = width / block_px * told.size(3);
  at::parallel_for(0, height / block_px, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      if (told.scalar_type() == torch::kBFloat16) {
        mix_rows(planes, height, width, row, told.data_ptr<c10::BFloat16>() + row * step, guides,
                 mixed.data_ptr<float>());
      } else {
        mix_rows(planes, height, width, row, told.data_ptr<float>() + row * step, guides,
                 mixed.data_ptr<float>());
      }
    }
  });
  return mixed;
}

}  // namespace limpid
