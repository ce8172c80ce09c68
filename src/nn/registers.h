// What our convolutions compute on: registers of as many floats as a processor's instructions take.
#pragma once

#include <cstdint>
#include <cstring>

#include "nn/bfloat16.h"

// Clang 14 has no registers of 512 bits in functions for AVX-512 alone, nor the feature's name.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define LIMPID_HAS_CONVOLUTIONS
#endif

/// Inlined into functions for the processors that have such registers.
#define LIMPID_INLINED __attribute__((always_inline)) inline

namespace limpid {

/// What a register holds. Passed on by reference: by value they would be passed differently with
/// and without AVX-512.
template <int lanes>
struct Register {  // (with `using` the compiler forgets a size that depends on a parameter)
  typedef float Floats __attribute__((vector_size(lanes * sizeof(float))));
  typedef std::uint32_t Bits __attribute__((vector_size(lanes * sizeof(float))));
  typedef std::uint16_t Halves __attribute__((vector_size(lanes * sizeof(std::uint16_t))));
};
template <int lanes>
using Floats = typename Register<lanes>::Floats;
template <int lanes>
using Bits = typename Register<lanes>::Bits;

/// Rounds to the nearest bfloat16, to even ones between two, where `narrow`.
template <int lanes, bool narrow>
LIMPID_INLINED void round_off(Floats<lanes>& values) {
  if constexpr (narrow) {
    const auto bits = reinterpret_cast<Bits<lanes>>(values);
    values = reinterpret_cast<Floats<lanes>>((bits + 0x7fffU + ((bits >> 16U) & 1U)) & 0xffff0000U);
  }
}

template <int lanes>
LIMPID_INLINED void load(const float* from, Floats<lanes>& values) {
  std::memcpy(&values, from, sizeof values);
}
template <int lanes>
LIMPID_INLINED void load(const BFloat16* from, Floats<lanes>& values) {
  typename Register<lanes>::Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  values = reinterpret_cast<Floats<lanes>>(__builtin_convertvector(halves, Bits<lanes>) << 16U);
}
template <int lanes>
LIMPID_INLINED void store(const Floats<lanes>& values, float* to) {
  std::memcpy(to, &values, sizeof values);
}
/// Of values that are bfloat16s.
template <int lanes>
LIMPID_INLINED void store(const Floats<lanes>& values, BFloat16* to) {
  const auto halves = __builtin_convertvector(reinterpret_cast<Bits<lanes>>(values) >> 16U,
                                              typename Register<lanes>::Halves);
  std::memcpy(to, &halves, sizeof halves);
}

template <int lanes, bool narrow>
LIMPID_INLINED void round_and_store(Floats<lanes>& values, float* to) {
  round_off<lanes, narrow>(values);
  store<lanes>(values, to);
}
#ifdef LIMPID_HAS_CONVOLUTIONS
/// Where the processor has an instruction for it.
template <int lanes, bool narrow>
LIMPID_INLINED void round_and_store(const Floats<lanes>& values, BFloat16* to) {
  static_assert(lanes == 16 && narrow);
  typename Register<lanes>::Halves halves;
  asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(values));
  std::memcpy(to, &halves, sizeof halves);
}
#endif

}  // namespace limpid
