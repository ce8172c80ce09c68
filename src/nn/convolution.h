// Convolutions by processors with AVX2 or more, and what follows while the sums are in registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned.h"
#include "nn/bfloat16.h"
#include "nn/parameters.h"

namespace limpid {

/// Which convolutions suit a processor: LibTorch's, or ours with values of either type, of which a
/// register holds so many.
enum class Arithmetic { libtorch, floats_by_8, floats_by_16, bfloats };
/// `narrow`: values and weights are those of bfloat16, which ours may keep in floats.
Arithmetic fastest_arithmetic(bool narrow);
/// Whether the processor has what Convolution needs for such values.
bool has_convolutions(Arithmetic by);

/// Values of a grid of places, `channels` together, with a border of zeros one place wide, and
/// two at those ends where that makes their number even.
/// `Value`: float or BFloat16, here and below.
template <typename Value>
class Activations {
 public:
  Activations(std::int64_t height, std::int64_t width, std::int64_t channels);
  /// Of the first channel; y and x from -1, to the height and the width.
  [[nodiscard]] Value* at(std::int64_t y, std::int64_t x) const {
    return values_.get() + (y + 1) * row_step() + (x + 1) * channels_;
  }
  [[nodiscard]] std::int64_t height() const { return height_; }
  [[nodiscard]] std::int64_t width() const { return width_; }
  [[nodiscard]] std::int64_t channels() const { return channels_; }
  [[nodiscard]] std::int64_t row_step() const { return row_step_; }

 private:
  std::int64_t height_, width_, channels_, row_step_;
  AlignedValues<Value> values_;
};

/// What becomes of the sums, in this order; null pointers leave their step out.
template <typename Value>
struct Finish {
  const float* shift = nullptr;     ///< added, one value a channel
  const Value* residual = nullptr;  ///< added, laid like the result, which it may be
  bool rectified = false;           ///< negative values become zero
};

/// A convolution with its bias. `narrow`: values and weights are those of bfloat16, and every step
/// of the result is rounded to them, as LibTorch has it. The sums have the same bits for floats and
/// for bfloat16s: VDPBF16PS adds the second of two products first. `Out`: of the result.
template <typename Value, typename Out = Value>
class Convolution {
 public:
  /// `weight`: (outputs, inputs, side, side) of side 1 or 3, channels in multiples of 16. bfloat16s
  /// are narrow unless the result is floats. An empty bias: nothing follows the sums. `by`: for
  /// such values, and what the processor has.
  Convolution(const Parameter& weight, const Parameter& bias, std::int64_t stride, bool narrow,
              Arithmetic by);
  [[nodiscard]] std::int64_t outputs() const { return outputs_; }
  /// `width` places of one row. `in`: the place under the middle of the first one's kernel, in rows
  /// of `in_row` values, with a border where the kernel has one; `out_step`: from one place of the
  /// result to the next.
  void row(const Value* in, std::ptrdiff_t in_row, std::int64_t width, Out* out,
           std::ptrdiff_t out_step, const Finish<Out>& finish = {}) const;

 private:
  std::int64_t inputs_, outputs_, side_, stride_;
  bool narrow_;
  int lanes_;
  std::vector<float> bias_;
  AlignedValues<Value> packed_;
};

}  // namespace limpid
