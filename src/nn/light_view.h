// How the network sees light, and what its answer counts in.
#pragma once

#include <cmath>

#ifdef __AVX__
#include <immintrin.h>
#endif

#include "core/lanes.h"

namespace limpid {

/// Brightness, in units of the noise, at which the view changes from linear to compressed.
inline constexpr float view_knee = 3.0F;
/// Brightness at which the residual's scale changes from noise units to a share of the light.
inline constexpr float residual_knee = 30.0F;

/// s^(-1/2) to twelve bits or better.
inline FloatLanes rough_inverse_root(FloatLanes s) {
#ifdef __AVX__
  return _mm256_rsqrt_ps(s);
#else
  for (int i = 0; i < float_lane_count; ++i) s[i] = 1 / std::sqrt(s[i]);
  return s;
#endif
}
/// How the network sees light, see mixing.h, to 1e-6 of it: a rough s^(-3/8) and a step of Newton's
/// towards f^8 s^3 = 1.
inline FloatLanes seen_as(FloatLanes light) {
  const FloatLanes s = light * light + view_knee * view_knee;
  const FloatLanes half = rough_inverse_root(s), quarter = half * rough_inverse_root(half);
  const FloatLanes rough = quarter * quarter * rough_inverse_root(quarter);
  const FloatLanes square = rough * rough, near_half = square * square * s;
  return light * (rough * (0.5F + (1 - near_half * near_half * s) * (0.5F / 8)));
}
/// What the network's residual counts in: see mixing.h.
inline float residual_scale(float tile, float bright) {
  return std::sqrt(residual_knee * residual_knee + tile * tile + bright * bright);
}

inline FloatLanes residual_scales(FloatLanes tile, FloatLanes bright) {
  FloatLanes scales = residual_knee * residual_knee + tile * tile + bright * bright;
  for (int i = 0; i < float_lane_count; ++i) scales[i] = std::sqrt(scales[i]);
  return scales;
}

}  // namespace limpid
