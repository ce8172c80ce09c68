#include "nn/winograd.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <type_traits>

#include "nn/registers.h"

namespace limpid {

#ifdef LIMPID_HAS_CONVOLUTIONS

namespace {

constexpr std::int64_t numbers = 16;     // of a transformed tile of 4x4 values
constexpr std::int64_t most_tiles = 18;  // at a time: what is made of them stays in a core's cache

/// Tiles in a row, whose values overlap by two places.
template <typename In, typename Value>
struct Strip {
  std::int64_t tiles, channels;
  const In* in;  ///< the first value of the first tile
  std::ptrdiff_t in_row;
  Value* spread;  ///< (numbers, tiles, channels)
};

/// B^T of four values.
template <int lanes>
LIMPID_INLINED void spread(const std::array<Floats<lanes>, 4>& d,
                           std::array<Floats<lanes>, 4>& to) {
  to[0] = d[0] - d[2];
  to[1] = d[1] + d[2];
  to[2] = d[2] - d[1];
  to[3] = d[1] - d[3];
}

template <int lanes, bool narrow, typename In, typename Value>
LIMPID_INLINED void spread_values(const Strip<In, Value>& strip) {
  using Four = std::array<Floats<lanes>, 4>;
  const std::int64_t step = strip.channels;
  for (std::int64_t channel = 0; channel < step; channel += lanes) {
    const auto column = [&](std::int64_t x, Four & to) __attribute__((always_inline)) {
      Four d;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        load<lanes>(strip.in + i * strip.in_row + x * step + channel, d[i]);
      spread<lanes>(d, to);
    };
    std::array<Four, 4> columns;
    column(0, columns[0]);
    column(1, columns[1]);
    for (std::int64_t tile = 0; tile < strip.tiles; ++tile) {
      column(2 * tile + 2, columns[2]);
      column(2 * tile + 3, columns[3]);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Four made;
        spread<lanes>({columns[0][i], columns[1][i], columns[2][i], columns[3][i]}, made);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          round_and_store<lanes, narrow>(
              made[j], strip.spread + ((4 * i + j) * strip.tiles + tile) * step + channel);
        }
      }
      columns[0] = columns[2];
      columns[1] = columns[3];
    }
  }
}

/// What the sums of a strip are made into.
template <typename Out>
struct Result {
  std::int64_t tiles, channels;
  const float* sums;  ///< (numbers, tiles, channels)
  const float* bias;
  Out* out;  ///< of the first tile
  std::ptrdiff_t out_row;
  std::array<bool, 2> rows_wanted;
  bool first_wanted, last_wanted;  ///< of the strip's columns of places
  Then then;
};

template <int lanes, bool rounded, typename Out>
LIMPID_INLINED void finish(const Then& then, const Floats<lanes>& bias, Floats<lanes>& sum,
                           Out* out) {
  const auto add = [&](const Floats<lanes>& more) __attribute__((always_inline)) {
    sum += more;
    round_off<lanes, rounded>(sum);
  };
  add(bias);
  if (then.added) {
    Floats<lanes> there;
    load<lanes>(out, there);
    add(there);
  }
  if (then.rectified) sum = sum < 0.0F ? Floats<lanes>{} : sum;
  store<lanes>(sum, out);
}

template <int lanes, bool rounded, typename Out>
LIMPID_INLINED void gather_sums(const Result<Out>& result) {
  const std::int64_t step = result.channels;
  for (std::int64_t tile = 0; tile < result.tiles; ++tile) {
    const bool left = tile > 0 || result.first_wanted,
               right = tile + 1 < result.tiles || result.last_wanted;
    for (std::int64_t channel = 0; channel < step; channel += lanes) {
      std::array<std::array<Floats<lanes>, 4>, 2> rows;  // A^T of the columns
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        std::array<Floats<lanes>, 4> m;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
          load<lanes>(result.sums + ((4 * i + j) * result.tiles + tile) * step + channel, m[i]);
        rows[0][j] = m[0] + (m[1] + m[2]);
        rows[1][j] = (m[1] - m[2]) - m[3];
      }
      Floats<lanes> bias;
      load<lanes>(result.bias + channel, bias);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        if (!result.rows_wanted[static_cast<std::size_t>(i)]) continue;
        Out* const out = result.out + i * result.out_row + 2 * tile * step + channel;
        const auto& m = rows[i];
        Floats<lanes> first = m[0] + (m[1] + m[2]), second = (m[1] - m[2]) - m[3];
        if (left) finish<lanes, rounded>(result.then, bias, first, out);
        if (right) finish<lanes, rounded>(result.then, bias, second, out + step);
      }
    }
  }
}

/// Compiled for AVX2, and for AVX-512.
template <int lanes, bool narrow>
struct Ends {
  template <typename In, typename Value>
  static void spread(const Strip<In, Value>& strip) {
    spread_values<lanes, narrow>(strip);
  }
  template <typename Out>
  static void gather(const Result<Out>& result) {
    gather_sums<lanes, narrow>(result);
  }
};
template <bool narrow>
struct Ends<16, narrow> {
  template <typename In, typename Value>
  __attribute__((target("avx512f"))) static void spread(const Strip<In, Value>& strip) {
    spread_values<16, narrow>(strip);
  }
  template <typename Out>
  __attribute__((target("avx512f"))) static void gather(const Result<Out>& result) {
    gather_sums<16, narrow>(result);
  }
};

/// Calls use(Ends) with those for values of `Type`.
template <typename Type, typename Use>
void with_ends(int lanes, bool narrow, const Use& use) {
  if constexpr (std::is_same_v<Type, float>) {
    if (lanes == 8) return narrow ? use(Ends<8, true>()) : use(Ends<8, false>());
    if (!narrow) return use(Ends<16, false>());
  }
  use(Ends<16, true>());
}

/// G g G^T of a weight of 3x3.
std::array<double, numbers> spread_weight(const float* g) {
  constexpr std::array<std::array<double, 3>, 4> by{
      {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}}};
  std::array<double, numbers> spread{};
  for (std::size_t k = 0; k < spread.size(); ++k) {
    for (std::size_t tap = 0; tap < 9; ++tap)
      spread[k] += by[k / 4][tap / 3] * static_cast<double>(g[tap]) * by[k % 4][tap % 3];
  }
  return spread;
}

}  // namespace

template <typename Value>
Winograd<Value>::Winograd(const Parameter& weight, const Parameter& bias, bool narrow,
                          Arithmetic by)
    : inputs_(weight.shape.at(1)),
      outputs_(weight.shape.at(0)),
      narrow_(narrow),
      lanes_(by == Arithmetic::floats_by_8 ? 8 : 16),
      bias_(bias.values) {
  assert(weight.shape.at(2) == 3 && weight.shape.at(3) == 3);
  const auto channels = static_cast<std::size_t>(outputs_ * inputs_);
  std::vector<Parameter> spread(numbers, {{outputs_, inputs_, 1, 1}, std::vector<float>(channels)});
  for (std::size_t i = 0; i < channels; ++i) {
    const auto of_weight = spread_weight(&weight.values[9 * i]);
    for (std::size_t k = 0; k < spread.size(); ++k) {
      const auto value = static_cast<float>(of_weight[k]);
      spread[k].values[i] = narrow ? rounded_to_bfloat16(value) : value;
    }
  }
  for (const Parameter& of_number : spread)
    products_.emplace_back(of_number, Parameter(), 1, false, by);
}

template <typename Value>
std::size_t Winograd<Value>::scratch_bytes() const {
  return static_cast<std::size_t>(numbers * most_tiles) *
         (static_cast<std::size_t>(inputs_) * sizeof(Value) +
          static_cast<std::size_t>(outputs_) * sizeof(float));
}

template <typename Value>
template <typename In, typename Out>
void Winograd<Value>::two_rows(const Activations<In>& in, std::int64_t y, Places wanted,
                               Activations<Out>& out, Then then, std::byte* scratch) const {
  const std::int64_t first = wanted.x.begin / 2, tiles = (wanted.x.end + 1) / 2 - first,
                     strips = (tiles + most_tiles - 1) / most_tiles;
  auto* const spread = reinterpret_cast<Value*>(scratch);  // NOLINT(*-reinterpret-cast)
  auto* const sums = reinterpret_cast<float*>(             // NOLINT(*-reinterpret-cast)
      spread + numbers * most_tiles * inputs_);
  const auto is_wanted = [&](std::int64_t row) {
    return row >= wanted.y.begin && row < wanted.y.end;
  };
  for (std::int64_t i = 0; i < strips; ++i) {
    const std::int64_t begin = first + tiles * i / strips, end = first + tiles * (i + 1) / strips,
                       count = end - begin;
    const Strip<In, Value> strip{.tiles = count,
                                 .channels = inputs_,
                                 .in = in.at(y - 1, 2 * begin - 1),
                                 .in_row = in.row_step(),
                                 .spread = spread};
    with_ends<Value>(lanes_, narrow_, [&](auto ends) { ends.spread(strip); });
    for (std::int64_t k = 0; k < numbers; ++k) {
      products_[static_cast<std::size_t>(k)].row(spread + k * count * inputs_, 0, count,
                                                 sums + k * count * outputs_, outputs_);
    }
    const Result<Out> result{.tiles = count,
                             .channels = outputs_,
                             .sums = sums,
                             .bias = bias_.data(),
                             .out = out.at(y, 2 * begin),
                             .out_row = out.row_step(),
                             .rows_wanted = {is_wanted(y), is_wanted(y + 1)},
                             .first_wanted = 2 * begin >= wanted.x.begin,
                             .last_wanted = 2 * end <= wanted.x.end,
                             .then = then};
    with_ends<Out>(lanes_, then.rounded, [&](auto ends) { ends.gather(result); });
  }
}

#else

template <typename Value>
Winograd<Value>::Winograd(const Parameter&, const Parameter&, bool, Arithmetic) {
  assert(false);
}
template <typename Value>
std::size_t Winograd<Value>::scratch_bytes() const {
  return 0;
}
template <typename Value>
template <typename In, typename Out>
void Winograd<Value>::two_rows(const Activations<In>&, std::int64_t, Places, Activations<Out>&,
                               Then, std::byte*) const {
  assert(false);
}

#endif

template class Winograd<float>;
template class Winograd<BFloat16>;

#define LIMPID_TWO_ROWS(Value, In, Out)                                                 \
  template void Winograd<Value>::two_rows(const Activations<In>&, std::int64_t, Places, \
                                          Activations<Out>&, Then, std::byte*) const
LIMPID_TWO_ROWS(float, float, float);
LIMPID_TWO_ROWS(BFloat16, BFloat16, BFloat16);
LIMPID_TWO_ROWS(BFloat16, BFloat16, float);
LIMPID_TWO_ROWS(BFloat16, float, BFloat16);
#undef LIMPID_TWO_ROWS

}  // namespace limpid
