#include "nn/convolution.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <type_traits>
#include <utility>

#include "nn/registers.h"

namespace limpid {

template <typename Value>
Activations<Value>::Activations(std::int64_t height, std::int64_t width, std::int64_t channels)
    : height_(height),
      width_(width),
      channels_(channels),
      row_step_((width + 2 + width % 2) * channels),
      values_(allocate_aligned<Value>(
          static_cast<std::size_t>((height + 2 + height % 2) * row_step_))) {
  std::fill(at(-1, -1), at(0, -1), Value(0));
  for (std::int64_t y = 0; y < height; ++y) {
    std::fill(at(y, -1), at(y, 0), Value(0));
    std::fill(at(y, width), at(y + 1, -1), Value(0));
  }
  std::fill(at(height, -1), at(height + 1 + height % 2, -1), Value(0));
}

#ifdef LIMPID_HAS_CONVOLUTIONS

namespace {

/// Neighbouring places of the result and some of their channels: all sums are in registers.
template <typename Value, typename Out>
struct Piece {
  const Value* in;
  std::ptrdiff_t in_step;
  const std::ptrdiff_t* taps;  ///< from the middle of the kernel to its values
  std::int64_t tap_count, inputs;
  const Value* weights;  ///< as Convolution packs them, those of the channels
  const float* bias;     ///< null: the sums are the result
  Out* out;
  std::ptrdiff_t out_step;
  Finish<Out> finish;
};

template <int lanes, int vectors, int places>
using Sums = std::array<std::array<Floats<lanes>, vectors>, places>;

template <int lanes, int vectors, int places>
LIMPID_INLINED void add_products(const Piece<float, float>& p, Sums<lanes, vectors, places>& sums) {
  const float* weights = p.weights;
  for (std::int64_t t = 0; t < p.tap_count; ++t) {
    for (std::int64_t k = 0; k < p.inputs; ++k) {
      const float* in = p.in + p.taps[t] + (k ^ 1);
      std::array<Floats<lanes>, vectors> some;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) load<lanes>(weights + v * lanes, some[v]);
#pragma GCC unroll 12
      for (int i = 0; i < places; ++i) {
        const float value = in[i * p.in_step];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sums[i][v] += value * some[v];
      }
      weights += vectors * lanes;
    }
  }
}

template <int lanes, int vectors, int places, typename Out>
LIMPID_INLINED void add_products(const Piece<BFloat16, Out>& p,
                                 Sums<lanes, vectors, places>& sums) {
  const BFloat16* weights = p.weights;
  for (std::int64_t t = 0; t < p.tap_count; ++t) {
    for (std::int64_t k = 0; k < p.inputs; k += 2) {
      const BFloat16* in = p.in + p.taps[t] + k;
      std::array<Bits<lanes>, vectors> some;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v)
        std::memcpy(&some[v], weights + v * 2 * lanes, sizeof some[v]);
#pragma GCC unroll 12
      for (int i = 0; i < places; ++i) {
        std::uint32_t pair;
        std::memcpy(&pair, in + i * p.in_step, sizeof pair);
        const Bits<lanes> both = pair + Bits<lanes>{};
        // By its name: the intrinsic needs a function that no other processor may enter, which
        // nothing else here does.
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
          asm("vdpbf16ps %2, %1, %0" : "+v"(sums[i][v]) : "v"(both), "v"(some[v]));
      }
      weights += vectors * 2 * lanes;
    }
  }
}

template <int lanes, int vectors, int places, bool narrow, typename Value, typename Out>
LIMPID_INLINED void convolve(const Piece<Value, Out>& p) {
  Sums<lanes, vectors, places> sums{};
  add_products<lanes, vectors, places>(p, sums);
  if (p.bias == nullptr) {
#pragma GCC unroll 12
    for (int i = 0; i < places; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        round_off<lanes, narrow>(sums[i][v]);
        store<lanes>(sums[i][v], p.out + i * p.out_step + v * lanes);
      }
    }
    return;
  }
#pragma GCC unroll 12
  for (int i = 0; i < places; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const std::ptrdiff_t channel = v * lanes, at = i * p.out_step + channel;
      Floats<lanes> values = sums[i][v], more;
      const auto add = [&](const auto* from) __attribute__((always_inline)) {
        load<lanes>(from, more);
        values += more;
        round_off<lanes, narrow>(values);
      };
      add(p.bias + channel);
      if (p.finish.shift != nullptr) add(p.finish.shift + channel);
      if (p.finish.residual != nullptr) add(p.finish.residual + at);
      if (p.finish.rectified) values = values < 0.0F ? Floats<lanes>{} : values;
      store<lanes>(values, p.out + at);
    }
  }
}

template <int lanes, int vectors, int places, bool narrow, typename Value, typename Out>
struct Worker {
  static void work(const Piece<Value, Out>& p) { convolve<lanes, vectors, places, narrow>(p); }
};
template <int vectors, int places, bool narrow, typename Value, typename Out>
struct Worker<16, vectors, places, narrow, Value, Out> {
  __attribute__((target("avx512f"))) static void work(const Piece<Value, Out>& p) {
    convolve<16, vectors, places, narrow>(p);
  }
};

/// As many as fit into the 32 registers of AVX-512, or the 16 of AVX2, beside the weights and one
/// value.
constexpr int most_places(int lanes, int vectors) {
  return lanes == 8 ? 6 : vectors <= 2 ? 12 : vectors == 3 ? 9 : 6;
}

template <typename Value, typename Out>
using Work = void (*)(const Piece<Value, Out>&);

template <int lanes, int vectors, bool narrow, typename Value, typename Out, int... counts>
constexpr std::array<Work<Value, Out>, 12> works_of(std::integer_sequence<int, counts...>) {
  return {Worker<lanes, vectors, counts + 1, narrow, Value, Out>::work...};
}
template <int lanes, int vectors, bool narrow, typename Value, typename Out>
constexpr auto works = works_of<lanes, vectors, narrow, Value, Out>(
    std::make_integer_sequence<int, most_places(lanes, vectors)>());

template <bool narrow, typename Value, typename Out>
Work<Value, Out> work_for(int lanes, int vectors, std::int64_t places) {
  const auto at = static_cast<std::size_t>(places - 1);
  if constexpr (std::is_same_v<Value, float>) {
    if (lanes == 8) return works<8, 2, narrow, Value, Out>[at];
  }
  switch (vectors) {
    case 1:
      return works<16, 1, narrow, Value, Out>[at];
    case 2:
      return works<16, 2, narrow, Value, Out>[at];
    case 3:
      return works<16, 3, narrow, Value, Out>[at];
    default:
      return works<16, 4, narrow, Value, Out>[at];
  }
}

/// Registers of channels that are summed up together.
int vectors_of(int lanes, std::int64_t outputs) {
  if (lanes == 8) return 2;
  for (const int vectors : {4, 3, 2}) {
    if (outputs % (vectors * lanes) == 0) return vectors;
  }
  return 1;
}

}  // namespace

template <typename Value, typename Out>
Convolution<Value, Out>::Convolution(const Parameter& weight, const Parameter& bias,
                                     std::int64_t stride, bool narrow, Arithmetic by)
    : inputs_(weight.shape.at(1)),
      outputs_(weight.shape.at(0)),
      side_(weight.shape.at(2)),
      stride_(stride),
      narrow_(narrow),
      lanes_(by == Arithmetic::floats_by_8 ? 8 : 16),
      bias_(bias.values),
      packed_(allocate_aligned<Value>(weight.values.size())) {
  constexpr bool pairs = std::is_same_v<Value, BFloat16>;
  assert(inputs_ % 16 == 0 && outputs_ % 16 == 0 && (side_ == 1 || side_ == 3));
  assert(pairs == (by == Arithmetic::bfloats) && (narrow || std::is_same_v<Out, float>));
  const std::int64_t together = vectors_of(lanes_, outputs_) * lanes_, area = side_ * side_;
  // floats: (groups, side, side, inputs / 2, 2, together), the second of two inputs first;
  // bfloat16s: (groups, side, side, inputs / 2, together, 2)
  const auto place = [&](std::int64_t output, std::int64_t input, std::int64_t tap) {
    const std::int64_t group = output / together, lane = output % together,
                       before = ((group * area + tap) * inputs_ + input / 2 * 2) * together;
    return before + (pairs ? 2 * lane + input % 2 : (1 - input % 2) * together + lane);
  };
  const float* next = weight.values.data();
  for (std::int64_t output = 0; output < outputs_; ++output) {
    for (std::int64_t input = 0; input < inputs_; ++input) {
      for (std::int64_t tap = 0; tap < area; ++tap)
        packed_[static_cast<std::size_t>(place(output, input, tap))] = Value(*next++);
    }
  }
}

template <typename Value, typename Out>
void Convolution<Value, Out>::row(const Value* in, std::ptrdiff_t in_row, std::int64_t width,
                                  Out* out, std::ptrdiff_t out_step,
                                  const Finish<Out>& finish) const {
  std::array<std::ptrdiff_t, 9> taps{};
  for (std::int64_t t = 0; t < side_ * side_; ++t) {
    taps[static_cast<std::size_t>(t)] =
        (t / side_ - side_ / 2) * in_row + (t % side_ - side_ / 2) * inputs_;
  }
  const int vectors = vectors_of(lanes_, outputs_);
  const std::int64_t together = vectors * lanes_, most = most_places(lanes_, vectors),
                     pieces = (width + most - 1) / most;
  for (std::int64_t first = 0; first < outputs_; first += together) {
    for (std::int64_t i = 0; i < pieces; ++i) {
      const std::int64_t begin = width * i / pieces, end = width * (i + 1) / pieces;
      Piece<Value, Out> piece{.in = in + begin * stride_ * inputs_,
                              .in_step = stride_ * inputs_,
                              .taps = taps.data(),
                              .tap_count = side_ * side_,
                              .inputs = inputs_,
                              .weights = packed_.get() + first * inputs_ * side_ * side_,
                              .bias = bias_.empty() ? nullptr : bias_.data() + first,
                              .out = out + begin * out_step + first,
                              .out_step = out_step,
                              .finish = finish};
      if (finish.shift != nullptr) piece.finish.shift += first;
      if (finish.residual != nullptr) piece.finish.residual += begin * out_step + first;
      const std::int64_t places = end - begin;
      if constexpr (std::is_same_v<Out, float>) {
        if (!narrow_) {
          work_for<false, Value, Out>(lanes_, vectors, places)(piece);
          continue;
        }
      }
      if constexpr (std::is_same_v<Value, Out>)
        work_for<true, Value, Out>(lanes_, vectors, places)(piece);
    }
  }
}

bool has_convolutions(Arithmetic by) {
  switch (by) {
    case Arithmetic::libtorch:
      return true;
    case Arithmetic::floats_by_8:
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    case Arithmetic::floats_by_16:
      return __builtin_cpu_supports("avx512f") != 0;
    case Arithmetic::bfloats:
      return __builtin_cpu_supports("avx512bf16") != 0;
  }
  return false;
}

Arithmetic fastest_arithmetic(bool narrow) {
  if (narrow && __builtin_cpu_supports("amx-bf16") != 0) return Arithmetic::libtorch;
  // others than Intel's do two products of bfloat16 in the time of one of float32
  if (narrow && has_convolutions(Arithmetic::bfloats) && __builtin_cpu_is("intel") == 0)
    return Arithmetic::bfloats;
  for (const Arithmetic by : {Arithmetic::floats_by_16, Arithmetic::floats_by_8}) {
    if (has_convolutions(by)) return by;
  }
  return Arithmetic::libtorch;
}

#else

template <typename Value, typename Out>
Convolution<Value, Out>::Convolution(const Parameter&, const Parameter&, std::int64_t, bool,
                                     Arithmetic) {
  assert(false);
}
template <typename Value, typename Out>
void Convolution<Value, Out>::row(const Value*, std::ptrdiff_t, std::int64_t, Out*, std::ptrdiff_t,
                                  const Finish<Out>&) const {
  assert(false);
}
bool has_convolutions(Arithmetic by) { return by == Arithmetic::libtorch; }
Arithmetic fastest_arithmetic(bool) { return Arithmetic::libtorch; }

#endif

template class Activations<float>;
template class Activations<BFloat16>;
template class Convolution<float>;
template class Convolution<BFloat16>;
template class Convolution<BFloat16, float>;

}  // namespace limpid
