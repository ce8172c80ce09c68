// Convolutions of side 3 with four products for nine, by processors with AVX2 or more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "nn/convolution.h"
#include "nn/parameters.h"

namespace limpid {

/// The places from `begin` on and before `end` along one axis, and along both.
struct Range {
  std::int64_t begin, end;
  [[nodiscard]] std::int64_t length() const { return end - begin; }
};
struct Places {
  Range y, x;
};

/// What becomes of a convolution's sums, in this order.
struct Then {
  bool rounded = false;    ///< to bfloat16 after each step; needed where the result is of that type
  bool added = false;      ///< to what the result's places hold
  bool rectified = false;  ///< negative values become zero
};

/// F(2x2, 3x3) of Lavin and Gray (2016, https://arxiv.org/abs/1509.09308): two by two places of the
/// result are A^T ((G g G^T) (B^T d B)) A of weights g and four by four values d, where the inner
/// product is, for each of 16 numbers, one of matrices over the channels: 16 products for 36. The
/// result of a place is the same whatever places are asked for with it. Arithmetic of bfloat16
/// rounds B^T d B and G g G^T to it, which makes an error of its own as large as that of rounding
/// d.
template <typename Value>
class Winograd {
 public:
  /// As Convolution of side 3 and stride 1.
  Winograd(const Parameter& weight, const Parameter& bias, bool narrow, Arithmetic by);

  /// Rows y and y + 1 of the result, y even, of these places. `scratch`: scratch_bytes() of memory
  /// at a multiple of 64 bytes. `In`, `Out`: float or `Value`.
  template <typename In, typename Out>
  void two_rows(const Activations<In>& in, std::int64_t y, Places wanted, Activations<Out>& out,
                Then then, std::byte* scratch) const;
  [[nodiscard]] std::size_t scratch_bytes() const;

 private:
  std::int64_t inputs_, outputs_;
  bool narrow_;
  int lanes_;
  std::vector<float> bias_;
  std::vector<Convolution<Value, float>> products_;  ///< for each of the 16 numbers
};

}  // namespace limpid
