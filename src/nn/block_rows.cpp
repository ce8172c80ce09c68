#include "nn/block_rows.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "core/lanes.h"
#include "nn/light_view.h"
#include "nn/registers.h"
#include "nn/shape.h"

namespace limpid {
namespace {

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

template <typename Value>
FloatLanes floats_at(const Value* from) {
  FloatLanes values;
  load<float_lane_count>(from, values);
  return values;
}

template <bool narrow, typename Value>
void compress_rows(const std::vector<Plane>& planes, std::int64_t width, std::int64_t block_row,
                   Value* out) {
  constexpr std::int64_t blocks_per_line = 64 / (block_px * sizeof(float));
  const auto count = static_cast<std::int64_t>(planes.size()), blocks = width / block_px;
  for (std::int64_t p = 0; p < count; ++p) {
    // rows of one plane are too few for the processor to foresee those of the next
    const Plane &plane = planes[static_cast<std::size_t>(p)],
                &next = planes[static_cast<std::size_t>(std::min(p + 1, count - 1))];
    const float *in = plane.first + block_row * block_px * plane.stride,
                *coming = next.first + block_row * block_px * next.stride;
    for (std::int64_t b = 0; b < blocks; ++b) {
      if (b % blocks_per_line == 0) {
        for (std::int64_t i = 0; i < block_px; ++i)
          __builtin_prefetch(coming + b * block_px + i * next.stride);
      }
      Value* const to = out + (b * count + p) * block_area;
      for (std::int64_t half = 0; half < 2; ++half) {
        FloatLanes seen =
            seen_as(half_block(in + b * block_px + 2 * half * plane.stride, plane.stride));
        round_off<float_lane_count, narrow>(seen);
        store<float_lane_count>(seen, to + half * float_lane_count);
      }
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

void compress_block_row(const std::vector<Plane>& planes, std::int64_t width,
                        std::int64_t block_row, bool narrow, float* out) {
  (narrow ? compress_rows<true, float> : compress_rows<false, float>)(planes, width, block_row,
                                                                      out);
}
void compress_block_row(const std::vector<Plane>& planes, std::int64_t width,
                        std::int64_t block_row, [[maybe_unused]] bool narrow, BFloat16* out) {
  assert(narrow);
  compress_rows<true>(planes, width, block_row, out);
}

void mix_block_row(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                   std::int64_t block_row, const float* told, int guides, float* out) {
  mix_rows(planes, height, width, block_row, told, guides, out);
}
void mix_block_row(const std::vector<Plane>& planes, std::int64_t height, std::int64_t width,
                   std::int64_t block_row, const BFloat16* told, int guides, float* out) {
  mix_rows(planes, height, width, block_row, told, guides, out);
}

}  // namespace limpid
