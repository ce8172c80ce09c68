#include "nn/convolution.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__)
#define LIMPID_HAS_AVX512
#include <immintrin.h>
#endif

namespace limpid {

Activations::Activations(std::int64_t height, std::int64_t width, std::int64_t channels)
    : values_(torch::empty({height + 2, width + 2, channels})) {
  for (const std::int64_t end : {std::int64_t{0}, height + 1}) values_.select(0, end).zero_();
  for (const std::int64_t end : {std::int64_t{0}, width + 1}) values_.select(1, end).zero_();
}

#ifdef LIMPID_HAS_AVX512

namespace {

constexpr int lanes = 16;
using Vector = float __attribute__((vector_size(lanes * sizeof(float))));
using Bits = std::uint32_t __attribute__((vector_size(lanes * sizeof(float))));

/// Neighbouring places of the result and some of their channels: all sums are in registers.
struct Piece {
  const float* in;
  std::ptrdiff_t in_step;
  const std::ptrdiff_t* taps;  ///< from the middle of the kernel to its values
  std::int64_t tap_count, inputs;
  const float* weights;  ///< of each tap and input, those of the channels
  const float* bias;
  float* out;
  std::ptrdiff_t out_step;
  Finish finish;
};

/// Rounded to the nearest bfloat16, to even ones between two, where `narrow`.
template <bool narrow>
__attribute__((target("avx512f"), always_inline)) inline Vector stored(Vector value) {
  if constexpr (!narrow) return value;
  const Bits bits = reinterpret_cast<Bits>(value);
  return reinterpret_cast<Vector>((bits + 0x7fffU + ((bits >> 16U) & 1U)) & 0xffff0000U);
}

template <int vectors, int places>
using Sums = std::array<std::array<Vector, vectors>, places>;

template <int vectors, int places>
__attribute__((target("avx512f"), always_inline)) inline void add_products(
    const Piece& p, Sums<vectors, places>& sums) {
  const float* weights = p.weights;
  for (std::int64_t t = 0; t < p.tap_count; ++t) {
    for (std::int64_t k = 0; k < p.inputs; ++k) {
      const float* in = p.in + p.taps[t] + (k ^ 1);
      std::array<Vector, vectors> some;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) some[v] = _mm512_load_ps(weights + v * lanes);
#pragma GCC unroll 12
      for (int i = 0; i < places; ++i) {
        const Vector value = _mm512_set1_ps(in[i * p.in_step]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sums[i][v] = _mm512_fmadd_ps(value, some[v], sums[i][v]);
      }
      weights += vectors * lanes;
    }
  }
}

template <int vectors, int places, bool narrow>
__attribute__((target("avx512f"))) void work(const Piece& p) {
  Sums<vectors, places> sums{};
  add_products<vectors, places>(p, sums);
#pragma GCC unroll 12
  for (int i = 0; i < places; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const std::ptrdiff_t channel = v * lanes, at = i * p.out_step + channel;
      Vector value = stored<narrow>(sums[i][v] + _mm512_loadu_ps(p.bias + channel));
      if (p.finish.shift != nullptr)
        value = stored<narrow>(value + _mm512_loadu_ps(p.finish.shift + channel));
      if (p.finish.residual != nullptr)
        value = stored<narrow>(_mm512_loadu_ps(p.finish.residual + at) + value);
      if (p.finish.rectified) value = value < 0.0F ? Vector{} : value;
      _mm512_storeu_ps(p.out + at, value);
    }
  }
}

/// As many as fit into the 32 registers beside the weights and one value.
constexpr int most_places(int vectors) { return vectors <= 2 ? 12 : vectors == 3 ? 9 : 6; }

using Work = void (*)(const Piece&);

template <int vectors, bool narrow, int... counts>
constexpr std::array<Work, 12> works_of(std::integer_sequence<int, counts...>) {
  return {work<vectors, counts + 1, narrow>...};
}
template <int vectors, bool narrow>
constexpr auto works =
    works_of<vectors, narrow>(std::make_integer_sequence<int, most_places(vectors)>());

template <bool narrow>
Work work_for(int vectors, std::int64_t places) {
  const auto at = static_cast<std::size_t>(places - 1);
  switch (vectors) {
    case 1:
      return works<1, narrow>[at];
    case 2:
      return works<2, narrow>[at];
    case 3:
      return works<3, narrow>[at];
    default:
      return works<4, narrow>[at];
  }
}

/// Of the channels that are summed up together.
int vectors_of(std::int64_t outputs) {
  for (const int vectors : {4, 3, 2}) {
    if (outputs % (vectors * lanes) == 0) return vectors;
  }
  return 1;
}

}  // namespace

Convolution::Convolution(const torch::Tensor& weight, const torch::Tensor& bias,
                         std::int64_t stride, bool narrow)
    : inputs_(weight.size(1)),
      outputs_(weight.size(0)),
      side_(weight.size(2)),
      stride_(stride),
      narrow_(narrow),
      bias_(static_cast<std::size_t>(outputs_)) {
  assert(inputs_ % lanes == 0 && outputs_ % lanes == 0 && (side_ == 1 || side_ == 3));
  const std::int64_t together = vectors_of(outputs_) * lanes;
  // (groups, side, side, inputs / 2, 2, together), the second of two inputs first
  packed_ = weight.to(torch::kFloat)
                .reshape({outputs_ / together, together, inputs_ / 2, 2, side_, side_})
                .permute({0, 4, 5, 2, 3, 1})
                .flip(4)
                .contiguous();
  const auto plain = bias.to(torch::kFloat).contiguous();
  std::copy_n(plain.data_ptr<float>(), outputs_, bias_.begin());
}

void Convolution::row(const float* in, std::ptrdiff_t in_row, std::int64_t width, float* out,
                      std::ptrdiff_t out_step, const Finish& finish) const {
  std::array<std::ptrdiff_t, 9> taps{};
  for (std::int64_t t = 0; t < side_ * side_; ++t) {
    taps[static_cast<std::size_t>(t)] =
        (t / side_ - side_ / 2) * in_row + (t % side_ - side_ / 2) * inputs_;
  }
  const int vectors = vectors_of(outputs_);
  const std::int64_t together = vectors * lanes, most = most_places(vectors),
                     pieces = (width + most - 1) / most;
  for (std::int64_t first = 0; first < outputs_; first += together) {
    for (std::int64_t i = 0; i < pieces; ++i) {
      const std::int64_t begin = width * i / pieces, end = width * (i + 1) / pieces;
      Piece piece{.in = in + begin * stride_ * inputs_,
                  .in_step = stride_ * inputs_,
                  .taps = taps.data(),
                  .tap_count = side_ * side_,
                  .inputs = inputs_,
                  .weights = packed_.data_ptr<float>() + first * inputs_ * side_ * side_,
                  .bias = bias_.data() + first,
                  .out = out + begin * out_step + first,
                  .out_step = out_step,
                  .finish = finish};
      if (finish.shift != nullptr) piece.finish.shift += first;
      if (finish.residual != nullptr) piece.finish.residual += begin * out_step + first;
      (narrow_ ? work_for<true> : work_for<false>)(vectors, end - begin)(piece);
    }
  }
}

bool own_convolutions_pay(bool narrow) {
  if (__builtin_cpu_supports("avx512f") == 0) return false;
  // others than Intel's do two products of bfloat16 in the time of one of float32
  return !narrow || (__builtin_cpu_is("intel") != 0 && __builtin_cpu_supports("amx-bf16") == 0);
}

#else

Convolution::Convolution(const torch::Tensor&, const torch::Tensor&, std::int64_t, bool) {
  assert(false);
}
void Convolution::row(const float*, std::ptrdiff_t, std::int64_t, float*, std::ptrdiff_t,
                      const Finish&) const {
  assert(false);
}
bool own_convolutions_pay(bool) { return false; }

#endif

}  // namespace limpid
