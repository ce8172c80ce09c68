#include "core/fft_lines.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "core/fft_plans.h"

namespace limpid {
namespace {

using Complex = std::complex<float>;

const Plans& plans_for(int length) {
  static PlanStore<int> store;
  return store.find(length, [&] {
    const auto count = static_cast<std::size_t>(length);
    const SpectrumMemory from = allocate_spectrum(count, {length, 1}),
                         to = allocate_spectrum(count, {length, 1});
    const auto plan = [&](int direction) {
      return Plan(fftwf_plan_dft_1d(length, as_fftw(from.get()), as_fftw(to.get()), direction,
                                    FFTW_ESTIMATE | FFTW_PRESERVE_INPUT));
    };
    return Plans{plan(FFTW_FORWARD), plan(FFTW_BACKWARD)};
  });
}

void execute(const Plan& plan, std::span<const Complex> from, std::span<Complex> to) {
  // FFTW's interface knows no const; the plan leaves what it reads as it was
  fftwf_execute_dft(plan.get(), as_fftw(const_cast<Complex*>(from.data())), as_fftw(to.data()));
}

/// Four rows of four complex values, each taken for one double: to[i][j] = from[j][i].
using Four = double __attribute__((vector_size(32)));
void turn_four(const Complex* from, std::size_t from_stride, Complex* to, std::size_t to_stride) {
  const auto load = [&](std::size_t i) {
    Four values;
    std::memcpy(&values, from + i * from_stride, sizeof values);
    return values;
  };
  const auto store = [&](std::size_t i, Four values) {
    std::memcpy(static_cast<void*>(to + i * to_stride), &values, sizeof values);
  };
  const Four a = load(0), b = load(1), c = load(2), d = load(3);
  const Four ab_even = __builtin_shufflevector(a, b, 0, 4, 2, 6);
  const Four ab_odd = __builtin_shufflevector(a, b, 1, 5, 3, 7);
  const Four cd_even = __builtin_shufflevector(c, d, 0, 4, 2, 6);
  const Four cd_odd = __builtin_shufflevector(c, d, 1, 5, 3, 7);
  store(0, __builtin_shufflevector(ab_even, cd_even, 0, 1, 4, 5));
  store(1, __builtin_shufflevector(ab_odd, cd_odd, 0, 1, 4, 5));
  store(2, __builtin_shufflevector(ab_even, cd_even, 2, 3, 6, 7));
  store(3, __builtin_shufflevector(ab_odd, cd_odd, 2, 3, 6, 7));
}

/// to[x][y] = from[y][x] for up to four rows and columns.
void turn_part(const Complex* from, std::size_t from_stride, int rows, int columns, Complex* to,
               std::size_t to_stride) {
  if (rows >= 4 && columns >= 4) return turn_four(from, from_stride, to, to_stride);
  for (std::size_t y = 0; y < 4 && static_cast<int>(y) < rows; ++y) {
    for (std::size_t x = 0; x < 4 && static_cast<int>(x) < columns; ++x)
      to[x * to_stride + y] = from[y * from_stride + x];
  }
}

}  // namespace

LineFft::LineFft(int length) : plans_(&plans_for(length)) {}
void LineFft::forward(std::span<const Complex> from, std::span<Complex> to) const {
  execute(plans_->forward, from, to);
}
void LineFft::inverse(std::span<const Complex> from, std::span<Complex> to) const {
  execute(plans_->inverse, from, to);
}

ComplexLines::ComplexLines(int count, int length)
    : count_(count),
      length_(length),
      stride_(spread_line(length)),
      values_(allocate_spectrum(static_cast<std::size_t>(count) * stride_, {length, count})) {}

void ComplexLines::clear() {
  std::fill_n(values_.get(), static_cast<std::size_t>(count_) * stride_, Complex());
}

// A column's values lie in two cache lines of a page of their own, of which none is near the one
// before: the next block's are asked for while this one's are turned.
void turn(const ComplexLines& columns, int first, int count, ComplexLines& rows) {
  assert(count <= rows.count() && columns.count() <= rows.length());
  const std::size_t stride = columns.stride();
  for (int x = 0; x < columns.count(); x += 4) {
    const Complex* from = columns.line(x).data() + first;
    for (std::size_t i = 0; i < 4 && x + static_cast<int>(i) < columns.count(); ++i) {
      __builtin_prefetch(from + i * stride + count, 0, 2);
      __builtin_prefetch(from + i * stride + count + 8, 0, 2);
    }
    for (int y = 0; y < count; y += 4) {
      turn_part(from + y, stride, columns.count() - x, count - y, rows.line(y).data() + x,
                rows.stride());
    }
  }
}

void turn_back(const ComplexLines& rows, int first, int count, ComplexLines& columns) {
  assert(count <= rows.count() && columns.count() <= rows.length());
  const std::size_t stride = columns.stride();
  for (int x = 0; x < columns.count(); x += 4) {
    Complex* to = columns.line(x).data() + first;
    for (std::size_t i = 0; i < 4 && x + static_cast<int>(i) < columns.count(); ++i) {
      __builtin_prefetch(to + i * stride + count, 1, 2);
      __builtin_prefetch(to + i * stride + count + 8, 1, 2);
    }
    for (int y = 0; y < count; y += 4) {
      turn_part(rows.line(y).data() + x, rows.stride(), count - y, columns.count() - x, to + y,
                stride);
    }
  }
}

}  // namespace limpid
