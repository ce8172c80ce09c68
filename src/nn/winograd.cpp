#include "nn/winograd.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "nn/registers.h"

namespace limpid {

#ifdef LIMPID_HAS_CONVOLUTIONS

namespace {

constexpr std::int64_t numbers = 16;      // of a transformed piece of 4x4 places
constexpr std::int64_t most_tiles = 18;  // at a time: they and their sums stay in the second cache

/// Tiles of 2x2 places in a row, of which the first begins at `in` and `out`.
template <typename Value>
struct Strip {
  std::int64_t tiles, channels;
  const Value* in;  ///< of the first tile, a row and a place before it
  std::ptrdiff_t in_row;
  Value* transformed;  ///< (numbers, tiles, channels)
};

/// B^T of four values: differences of two of them, and one sum.
template <int lanes>
LIMPID_INLINED void spread(const std::array<Floats<lanes>, 4>& d, std::array<Floats<lanes>, 4>& to) {
  to[0] = d[0] - d[2];
  to[1] = d[1] + d[2];
  to[2] = d[2] - d[1];
  to[3] = d[1] - d[3];
}

template <int lanes, bool narrow, typename Value>
LIMPID_INLINED void transform(const Strip<Value>& strip) {
  using Four = std::array<Floats<lanes>, 4>;
  const std::int64_t step = strip.channels;
  for (std::int64_t c = 0; c < step; c += lanes) {
    const Value* in = strip.in + c;
    const auto column = [&](std::int64_t x, Four& to) __attribute__((always_inline)) {
      Four d;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) load<lanes>(in + i * strip.in_row + x * step, d[i]);
      spread<lanes>(d, to);
    };
    std::array<Four, 4> columns;
    column(0, columns[0]);
    column(1, columns[1]);
    for (std::int64_t tile = 0; tile < strip.tiles; ++tile) {
      column(2 * tile + 2, columns[2]);
      column(2 * tile + 3, columns[3]);
      Value* const to = strip.transformed + tile * step + c;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Four made;
        spread<lanes>({columns[0][i], columns[1][i], columns[2][i], columns[3][i]}, made);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          round_off<lanes, narrow>(made[j]);
          store<lanes>(made[j], to + (4 * i + j) * strip.tiles * step);
        }
      }
      columns[0] = columns[2];
      columns[1] = columns[3];
    }
  }
}

/// What is made of the sums of a strip.
template <typename Value>
struct Result {
  std::int64_t tiles, channels;
  const float* sums;  ///< (numbers, tiles, channels)
  const float* bias;
  Value* out;  ///< of the first tile
  std::ptrdiff_t out_row;
  std::array<bool, 2> rows;   ///< which are wanted
  bool skip_first, skip_last;  ///< the first or the last column of places is not wanted
  typename Winograd<Value>::Then then;
};

template <int lanes, bool narrow, typename Value>
LIMPID_INLINED void finish(const Result<Value>& result, Floats<lanes>& sum,
                           const Floats<lanes>& bias, Value* out) {
  sum += bias;
  round_off<lanes, narrow>(sum);
  if (result.then.added) {
    Floats<lanes> more;
    load<lanes>(out, more);
    sum += more;
    round_off<lanes, narrow>(sum);
  }
  if (result.then.rectified) sum = sum < 0.0F ? Floats<lanes>{} : sum;
  store<lanes>(sum, out);
}

template <int lanes, bool narrow, typename Value>
LIMPID_INLINED void gather(const Result<Value>& result) {
  const std::int64_t step = result.channels;
  for (std::int64_t tile = 0; tile < result.tiles; ++tile) {
    const bool left = tile > 0 || !result.skip_first,
               right = tile + 1 < result.tiles || !result.skip_last;
    for (std::int64_t c = 0; c < step; c += lanes) {
      const float* const from = result.sums + tile * step + c;
      std::array<std::array<Floats<lanes>, 4>, 2> down;  // A^T of the columns
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        std::array<Floats<lanes>, 4> m;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
          load<lanes>(from + (4 * i + j) * result.tiles * step, m[i]);
        const Floats<lanes> sum = m[1] + m[2], difference = m[1] - m[2];
        down[0][j] = m[0] + sum;
        down[1][j] = difference - m[3];
      }
      Floats<lanes> bias;
      load<lanes>(result.bias + c, bias);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        if (!result.rows[static_cast<std::size_t>(i)]) continue;
        Value* const out = result.out + i * result.out_row + 2 * tile * step + c;
        const auto& d = down[i];
        if (left) {
          Floats<lanes> value = d[0] + (d[1] + d[2]);
          finish<lanes, narrow, Value>(result, value, bias, out);
        }
        if (right) {
          Floats<lanes> value = (d[1] - d[2]) - d[3];
          finish<lanes, narrow, Value>(result, value, bias, out + step);
        }
      }
    }
  }
}

/// For processors with AVX2, and with AVX-512.
template <int lanes, bool narrow, typename Value>
struct Ends {
  static void begin(const Strip<Value>& strip) { transform<lanes, narrow>(strip); }
  static void end(const Result<Value>& result) { gather<lanes, narrow>(result); }
};
template <bool narrow, typename Value>
struct Ends<16, narrow, Value> {
  __attribute__((target("avx512f"))) static void begin(const Strip<Value>& strip) {
    transform<16, narrow>(strip);
  }
  __attribute__((target("avx512f"))) static void end(const Result<Value>& result) {
    gather<16, narrow>(result);
  }
};

/// Calls use(Ends) with those for such values.
template <typename Value, typename Use>
void with_ends(int lanes, bool narrow, const Use& use) {
  if constexpr (std::is_same_v<Value, float>) {
    if (lanes == 8 && narrow) return use(Ends<8, true, Value>());
    if (lanes == 8) return use(Ends<8, false, Value>());
    if (!narrow) return use(Ends<16, false, Value>());
  }
  use(Ends<16, true, Value>());
}

}  // namespace

template <typename Value>
Winograd<Value>::Winograd(const torch::Tensor& weight, const torch::Tensor& bias, bool narrow,
                          Arithmetic by)
    : inputs_(weight.size(1)),
      outputs_(weight.size(0)),
      narrow_(narrow),
      lanes_(by == Arithmetic::floats_by_8 ? 8 : 16),
      bias_(static_cast<std::size_t>(outputs_)) {
  const auto spread_by = torch::tensor(
      {{1.0, 0.0, 0.0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0.0, 0.0, 1.0}}, torch::kDouble);
  auto spread_weights =
      torch::matmul(torch::matmul(spread_by, weight.to(torch::kDouble)), spread_by.t())
          .to(torch::kFloat);
  if (narrow) spread_weights = spread_weights.to(torch::kBFloat16).to(torch::kFloat);
  for (std::int64_t k = 0; k < numbers; ++k) {
    products_.emplace_back(spread_weights.select(3, k % 4).select(2, k / 4).unsqueeze(2).unsqueeze(3),
                           torch::zeros({outputs_}), 1, false, by);
  }
  const auto plain = bias.to(torch::kFloat).contiguous();
  std::copy_n(plain.data_ptr<float>(), outputs_, bias_.begin());
}

template <typename Value>
std::size_t Winograd<Value>::scratch_bytes() const {
  return static_cast<std::size_t>(numbers * most_tiles) *
         (static_cast<std::size_t>(inputs_) * sizeof(Value) +
          static_cast<std::size_t>(outputs_) * sizeof(float));
}

template <typename Value>
void Winograd<Value>::two_rows(const Activations<Value>& in, std::int64_t y, std::int64_t y_begin,
                               std::int64_t y_end, std::int64_t x_begin, std::int64_t x_end,
                               Activations<Value>& out, Then then, std::byte* scratch) const {
  const std::int64_t first = x_begin / 2, tiles = (x_end + 1) / 2 - first,
                     strips = (tiles + most_tiles - 1) / most_tiles;
  auto* const transformed = reinterpret_cast<Value*>(scratch);
  auto* const sums = reinterpret_cast<float*>(
      scratch + static_cast<std::size_t>(numbers * most_tiles * inputs_) * sizeof(Value));
  for (std::int64_t i = 0; i < strips; ++i) {
    const std::int64_t begin = first + tiles * i / strips, end = first + tiles * (i + 1) / strips,
                       count = end - begin;
    const Strip<Value> strip{.tiles = count,
                             .channels = inputs_,
                             .in = in.at(y - 1, 2 * begin - 1),
                             .in_row = in.row_step(),
                             .transformed = transformed};
    const Result<Value> result{
        .tiles = count,
        .channels = outputs_,
        .sums = sums,
        .bias = bias_.data(),
        .out = out.at(y, 2 * begin),
        .out_row = out.row_step(),
        .rows = {y >= y_begin && y < y_end, y + 1 >= y_begin && y + 1 < y_end},
        .skip_first = i == 0 && x_begin % 2 != 0,
        .skip_last = i + 1 == strips && x_end % 2 != 0,
        .then = then};
    with_ends<Value>(lanes_, narrow_, [&](const auto& ends) { ends.begin(strip); });
    for (std::int64_t k = 0; k < numbers; ++k) {
      products_[static_cast<std::size_t>(k)].row(transformed + k * count * inputs_, 0, count,
                                                 sums + k * count * outputs_, outputs_);
    }
    with_ends<Value>(lanes_, narrow_, [&](const auto& ends) { ends.end(result); });
  }
}

#else

template <typename Value>
Winograd<Value>::Winograd(const torch::Tensor&, const torch::Tensor&, bool, Arithmetic) {
  assert(false);
}
template <typename Value>
std::size_t Winograd<Value>::scratch_bytes() const {
  return 0;
}
template <typename Value>
void Winograd<Value>::two_rows(const Activations<Value>&, std::int64_t, std::int64_t, std::int64_t,
                               std::int64_t, std::int64_t, Activations<Value>&, Then,
                               std::byte*) const {
  assert(false);
}

#endif

template class Winograd<float>;
template class Winograd<c10::BFloat16>;

}  // namespace limpid
