#include "nn/convolution.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__)
#define LIMPID_HAS_AVX512
#include <immintrin.h>
#endif

namespace limpid {

template <typename Value>
Activations<Value>::Activations(std::int64_t height, std::int64_t width, std::int64_t channels)
    : values_(
          torch::empty({height + 2, width + 2, channels}, c10::CppTypeToScalarType<Value>::value)) {
  for (const std::int64_t end : {std::int64_t{0}, height + 1}) values_.select(0, end).zero_();
  for (const std::int64_t end : {std::int64_t{0}, width + 1}) values_.select(1, end).zero_();
}

#ifdef LIMPID_HAS_AVX512

namespace {

constexpr int lanes = 16;
using Vector = float __attribute__((vector_size(lanes * sizeof(float))));
using Bits = std::uint32_t __attribute__((vector_size(lanes * sizeof(float))));
using Halves = std::uint16_t __attribute__((vector_size(lanes * sizeof(std::uint16_t))));

/// Neighbouring places of the result and some of their channels: all sums are in registers.
template <typename Value>
struct Piece {
  const Value* in;
  std::ptrdiff_t in_step;
  const std::ptrdiff_t* taps;  ///< from the middle of the kernel to its values
  std::int64_t tap_count, inputs;
  const Value* weights;  ///< as Convolution packs them, those of the channels
  const float* bias;
  Value* out;
  std::ptrdiff_t out_step;
  Finish<Value> finish;
};

/// Rounded to the nearest bfloat16, to even ones between two, where `narrow`.
template <bool narrow>
__attribute__((target("avx512f"), always_inline)) inline Vector stored(Vector value) {
  if constexpr (!narrow) return value;
  const Bits bits = reinterpret_cast<Bits>(value);
  return reinterpret_cast<Vector>((bits + 0x7fffU + ((bits >> 16U) & 1U)) & 0xffff0000U);
}

__attribute__((target("avx512f"), always_inline)) inline Vector load(const float* from) {
  return _mm512_loadu_ps(from);
}
__attribute__((target("avx512f"), always_inline)) inline Vector load(const c10::BFloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return reinterpret_cast<Vector>(__builtin_convertvector(halves, Bits) << 16U);
}
__attribute__((target("avx512f"), always_inline)) inline void store(float* to, Vector value) {
  _mm512_storeu_ps(to, value);
}
/// Of a value that is one of bfloat16.
__attribute__((target("avx512f"), always_inline)) inline void store(c10::BFloat16* to,
                                                                    Vector value) {
  const Halves halves = __builtin_convertvector(reinterpret_cast<Bits>(value) >> 16U, Halves);
  std::memcpy(to, &halves, sizeof halves);
}

template <int vectors, int places>
using Sums = std::array<std::array<Vector, vectors>, places>;

template <int vectors, int places>
__attribute__((target("avx512f"), always_inline)) inline void add_products(
    const Piece<float>& p, Sums<vectors, places>& sums) {
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

/// sum + the products of two neighbours in each lane. By its name, as the intrinsic is only to be
/// had in functions that no processor without it may enter, which nothing else here needs to be.
__attribute__((target("avx512f"), always_inline)) inline void add_pairs(Vector& sum, Bits values,
                                                                        Bits weights) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(values), "v"(weights));
}

template <int vectors, int places>
__attribute__((target("avx512f"), always_inline)) inline void add_products(
    const Piece<c10::BFloat16>& p, Sums<vectors, places>& sums) {
  const c10::BFloat16* weights = p.weights;
  for (std::int64_t t = 0; t < p.tap_count; ++t) {
    for (std::int64_t k = 0; k < p.inputs; k += 2) {
      const c10::BFloat16* in = p.in + p.taps[t] + k;
      std::array<Bits, vectors> some;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v)
        some[v] = reinterpret_cast<Bits>(_mm512_load_si512(weights + v * 2 * lanes));
#pragma GCC unroll 12
      for (int i = 0; i < places; ++i) {
        std::uint32_t pair;
        std::memcpy(&pair, in + i * p.in_step, sizeof pair);
        const Bits value = pair + Bits{};
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) add_pairs(sums[i][v], value, some[v]);
      }
      weights += vectors * 2 * lanes;
    }
  }
}

template <int vectors, int places, bool narrow, typename Value>
__attribute__((target("avx512f"))) void work(const Piece<Value>& p) {
  Sums<vectors, places> sums{};
  add_products<vectors, places>(p, sums);
#pragma GCC unroll 12
  for (int i = 0; i < places; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const std::ptrdiff_t channel = v * lanes, at = i * p.out_step + channel;
      Vector value = stored<narrow>(sums[i][v] + load(p.bias + channel));
      if (p.finish.shift != nullptr) value = stored<narrow>(value + load(p.finish.shift + channel));
      if (p.finish.residual != nullptr)
        value = stored<narrow>(load(p.finish.residual + at) + value);
      if (p.finish.rectified) value = value < 0.0F ? Vector{} : value;
      store(p.out + at, value);
    }
  }
}

/// As many as fit into the 32 registers beside the weights and one value.
constexpr int most_places(int vectors) { return vectors <= 2 ? 12 : vectors == 3 ? 9 : 6; }

template <typename Value>
using Work = void (*)(const Piece<Value>&);

template <int vectors, bool narrow, typename Value, int... counts>
constexpr std::array<Work<Value>, 12> works_of(std::integer_sequence<int, counts...>) {
  return {work<vectors, counts + 1, narrow, Value>...};
}
template <int vectors, bool narrow, typename Value>
constexpr auto works =
    works_of<vectors, narrow, Value>(std::make_integer_sequence<int, most_places(vectors)>());

template <bool narrow, typename Value>
Work<Value> work_for(int vectors, std::int64_t places) {
  const auto at = static_cast<std::size_t>(places - 1);
  switch (vectors) {
    case 1:
      return works<1, narrow, Value>[at];
    case 2:
      return works<2, narrow, Value>[at];
    case 3:
      return works<3, narrow, Value>[at];
    default:
      return works<4, narrow, Value>[at];
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

template <typename Value>
Convolution<Value>::Convolution(const torch::Tensor& weight, const torch::Tensor& bias,
                                std::int64_t stride, bool narrow)
    : inputs_(weight.size(1)),
      outputs_(weight.size(0)),
      side_(weight.size(2)),
      stride_(stride),
      narrow_(narrow),
      bias_(static_cast<std::size_t>(outputs_)) {
  constexpr bool pairs = std::is_same_v<Value, c10::BFloat16>;
  assert(inputs_ % lanes == 0 && outputs_ % lanes == 0 && (side_ == 1 || side_ == 3));
  assert(narrow || !pairs);
  const std::int64_t together = vectors_of(outputs_) * lanes;
  const auto grouped = weight.to(c10::CppTypeToScalarType<Value>::value)
                           .reshape({outputs_ / together, together, inputs_ / 2, 2, side_, side_});
  // floats: (groups, side, side, inputs / 2, 2, together), the second of two inputs first;
  // bfloat16s: (groups, side, side, inputs / 2, together, 2)
  packed_ =
      (pairs ? grouped.permute({0, 4, 5, 2, 1, 3}) : grouped.permute({0, 4, 5, 2, 3, 1}).flip(4))
          .contiguous();
  const auto plain = bias.to(torch::kFloat).contiguous();
  std::copy_n(plain.data_ptr<float>(), outputs_, bias_.begin());
}

template <typename Value>
void Convolution<Value>::row(const Value* in, std::ptrdiff_t in_row, std::int64_t width, Value* out,
                             std::ptrdiff_t out_step, const Finish<Value>& finish) const {
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
      Piece<Value> piece{.in = in + begin * stride_ * inputs_,
                         .in_step = stride_ * inputs_,
                         .taps = taps.data(),
                         .tap_count = side_ * side_,
                         .inputs = inputs_,
                         .weights = packed_.data_ptr<Value>() + first * inputs_ * side_ * side_,
                         .bias = bias_.data() + first,
                         .out = out + begin * out_step + first,
                         .out_step = out_step,
                         .finish = finish};
      if (finish.shift != nullptr) piece.finish.shift += first;
      if (finish.residual != nullptr) piece.finish.residual += begin * out_step + first;
      if constexpr (std::is_same_v<Value, float>) {
        (narrow_ ? work_for<true, float> : work_for<false, float>)(vectors, end - begin)(piece);
      } else {
        work_for<true, Value>(vectors, end - begin)(piece);
      }
    }
  }
}

bool has_convolutions(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::libtorch ||
         (__builtin_cpu_supports("avx512f") != 0 &&
          (arithmetic == Arithmetic::floats || __builtin_cpu_supports("avx512bf16") != 0));
}

Arithmetic fastest_arithmetic(bool narrow) {
  if (!has_convolutions(Arithmetic::floats)) return Arithmetic::libtorch;
  if (!narrow) return Arithmetic::floats;
  if (__builtin_cpu_supports("amx-bf16") != 0) return Arithmetic::libtorch;
  // others than Intel's do two products of bfloat16 in the time of one of float32
  return has_convolutions(Arithmetic::bfloats) && __builtin_cpu_is("intel") == 0
             ? Arithmetic::bfloats
             : Arithmetic::floats;
}

#else

template <typename Value>
Convolution<Value>::Convolution(const torch::Tensor&, const torch::Tensor&, std::int64_t, bool) {
  assert(false);
}
template <typename Value>
void Convolution<Value>::row(const Value*, std::ptrdiff_t, std::int64_t, Value*, std::ptrdiff_t,
                             const Finish<Value>&) const {
  assert(false);
}
bool has_convolutions(Arithmetic arithmetic) { return arithmetic == Arithmetic::libtorch; }
Arithmetic fastest_arithmetic(bool) { return Arithmetic::libtorch; }

#endif

template class Activations<float>;
template class Activations<c10::BFloat16>;
template class Convolution<float>;
template class Convolution<c10::BFloat16>;

}  // namespace limpid
