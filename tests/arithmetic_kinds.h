// The kinds of values that convolutions are tested with.
#pragma once

#include <gtest/gtest.h>

#include <type_traits>

#include "nn/convolution.h"

namespace limpid {

/// `narrow`: rounded to bfloat16.
template <Arithmetic of, bool narrow_values>
struct Kind {
  using Type = std::conditional_t<of == Arithmetic::bfloats, BFloat16, float>;
  static constexpr bool narrow = narrow_values;
  static constexpr Arithmetic by = of;
};
using Kinds =
    testing::Types<Kind<Arithmetic::floats_by_8, false>, Kind<Arithmetic::floats_by_8, true>,
                   Kind<Arithmetic::floats_by_16, false>, Kind<Arithmetic::floats_by_16, true>,
                   Kind<Arithmetic::bfloats, true>>;

}  // namespace limpid
