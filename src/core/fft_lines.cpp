#include "core/fft_lines.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "core/fft_plans.h"

namespace limpid {
namespace {

using Complex = std::complex<float>;

/// Of 576 values, which a tile of 512 pixels has with its margins, FFTW's estimate is poor: 1.2 us
/// where 0.55 would do, and more than 640 values take. Of 640, as many as large tiles of nebulae
/// have, and of their half it takes .61 and .28 us where .48 and .23 would do. What it once found
/// by measuring is the same for everybody and every run, unlike what it would find now. An FFTW
/// with other routines than Debian's 3.3.10 for AVX has refuses it and estimates. By `fftwf-wisdom
/// -n cof576 cob576`, and so on; lines of several such runs may stand together.
constexpr const char* wisdom = R"(
(fftw-3.3.10 fftwf_wisdom #x9e7d4dee #xdb14fed1 #x34bf76a4 #xeb6e8fdf
  (fftwf_codelet_n2bv_12_avx 0 #x11048 #x11048 #x0 #x971d9f4e #xf815caf0 #xd79de08f #x9983e80a)
  (fftwf_codelet_n2bv_16_avx 0 #x11048 #x11048 #x0 #x0f89a429 #xd5be9fda #x3c36f263 #x47686d63)
  (fftwf_codelet_n2bv_20_avx 0 #x11048 #x11048 #x0 #x392985b4 #xf4275012 #xd0a70c00 #x40713784)
  (fftwf_codelet_n2fv_12_avx 0 #x11048 #x11048 #x0 #x3f46e766 #x50c7b4fa #x1d6a8dfe #x0ff29eec)
  (fftwf_codelet_n2fv_16_avx 0 #x11048 #x11048 #x0 #x71453859 #x564e84b3 #xb4ad7e07 #x8172df09)
  (fftwf_codelet_n2fv_20_avx 0 #x11048 #x11048 #x0 #x57bdb844 #xc3bad151 #xc57e7224 #xa06d5f8f)
  (fftwf_codelet_t1bv_6_avx 0 #x11048 #x11048 #x0 #x0f09e9a6 #xf42d0040 #x9c1f7043 #xc9002ace)
  (fftwf_codelet_t1fv_12_avx 0 #x11048 #x11048 #x0 #x23c1005d #xd2c01d1f #x5076acba #x7d5768ad)
  (fftwf_codelet_t2bv_20_avx 0 #x11048 #x11048 #x0 #x26b22518 #x27332121 #xd0851861 #xfcfc16ca)
  (fftwf_codelet_t2bv_32_avx 0 #x11048 #x11048 #x0 #xd0940e0e #xc72734f1 #xef0bbd22 #x620052fc)
  (fftwf_codelet_t2bv_8_avx 0 #x11048 #x11048 #x0 #xf7bee392 #xc825c4fc #xaee66672 #x34ebb623)
  (fftwf_codelet_t2fv_20_avx 0 #x11048 #x11048 #x0 #x06ae2b11 #xfbf6e07c #x9ae954a2 #x648df472)
  (fftwf_codelet_t2fv_32_avx 0 #x11048 #x11048 #x0 #x3dce61cd #x734c6dee #x2dc5352a #x8304534b)
  (fftwf_codelet_t2fv_4_avx 0 #x11048 #x11048 #x0 #x416be6c5 #xd9224b58 #x2dcc4e71 #x0ac5ebc0)
  (fftwf_dft_vrank_geq1_register 0 #x11048 #x11048 #x0 #x0cdd0dfb #xf4b9b198 #x91fa6406 #x822026c3)
  (fftwf_dft_vrank_geq1_register 0 #x11048 #x11048 #x0 #xd96d68d2 #x086be3b2 #x72e04a3b #x0192c6ec)
)
)";

const Plans& plans_for(int length) {
  static PlanStore<int> store;
  return store.find(length, [&] {
    [[maybe_unused]] static const int taken = fftwf_import_wisdom_from_string(wisdom);
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
