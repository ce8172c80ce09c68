#include "background/sky_stretch.h"

#include <algorithm>

namespace limpid::background {

float stretched(const SkyStretch& stretch, float pixel) {
  const float x = (pixel - stretch.pedestal) / stretch.white, m = stretch.median;
  if (x != x) return x;
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  return (1 - m) * x / ((1 - stretch_ratio * m) * x + (stretch_ratio - 1) * m);
}

float stretched_open(const SkyStretch& stretch, float value) {
  const float x = (value - stretch.pedestal) / stretch.white, m = stretch.median;
  const float end_slope = (1 - m) / ((stretch_ratio - 1) * m);
  if (x < 0) return end_slope * x;
  if (x > 1) return 1 + (x - 1) / end_slope;
  return stretched(stretch, value);
}

float unstretched(const SkyStretch& stretch, float value) {
  const float m = stretch.median;
  const float inside = std::clamp(value, 0.0F, 1.0F);
  const float bottom = (1 - m) - (1 - stretch_ratio * m) * inside;
  const float x = (stretch_ratio - 1) * m * inside / bottom;
  const float slope = (stretch_ratio - 1) * m * (1 - m) / (bottom * bottom);
  return stretch.pedestal + stretch.white * (x + slope * (value - inside));
}

}  // namespace limpid::background
