// Convolutions of side 3 with four products in nine, by processors with AVX2 or more.
#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <vector>

#include "nn/convolution.h"

namespace limpid {

/// F(2x2, 3x3) of Lavin and Gray (2016, arXiv:1509.09308): two by two places of the result are
/// A^T ((G g G^T) (B^T d B)) A, where the products of transformed weights and values are one matrix
/// product over the channels for each of 16 numbers. Values of bfloat16 are rounded once more, when
/// they are transformed; sums are not until the end.
template <typename Value>
class Winograd {
 public:
  /// As Convolution of side 3 and stride 1.
  Winograd(const torch::Tensor& weight, const torch::Tensor& bias, bool narrow, Arithmetic by);

  /// What becomes of the sums, in this order, each step rounded where `narrow`.
  struct Then {
    bool added = false;      ///< to what the result's place holds
    bool rectified = false;  ///< negative values become zero
  };
  /// Rows y and y + 1 of the result, y even, as far as `rows` has them, from column x_begin on and
  /// before x_end. The same whatever part is asked for: places belong together by twos. `scratch`:
  /// scratch_bytes() of memory, at a multiple of 64 bytes.
  void two_rows(const Activations<Value>& in, std::int64_t y, std::int64_t y_begin,
                std::int64_t y_end, std::int64_t x_begin, std::int64_t x_end,
                Activations<Value>& out, Then then, std::byte* scratch) const;
  [[nodiscard]] std::size_t scratch_bytes() const;

 private:
  std::int64_t inputs_, outputs_;
  bool narrow_;
  int lanes_;
  std::vector<float> bias_;
  std::vector<Convolution<Value, float>> products_;  ///< one for each transformed weight, 1x1
};

}  // namespace limpid
