#include "train/procedural.h"

#include <cmath>
#include <numbers>

namespace limpid {

torch::Tensor draw_procedural(Random& random, int height, int width) {
  const auto fy = torch::fft::fftfreq(height, torch::kFloat).unsqueeze(1),
             fx = torch::fft::rfftfreq(width, torch::kFloat).unsqueeze(0);
  const auto k = (fy.square() + fx.square()).sqrt();
  const double outer = 1.0 / random.log_uniform(40, 400);
  const auto turbulence = [&](double slope) {
    auto white = torch::empty({height, width});
    float* data = white.data_ptr<float>();
    for (std::int64_t i = 0; i < white.numel(); ++i) data[i] = static_cast<float>(random.normal());
    const auto field =
        torch::fft::irfft2(torch::fft::rfft2(white) * (k.square() + outer * outer).pow(slope / 2),
                           at::IntArrayRef({height, width}));
    return (field - field.mean()) / field.std().clamp_min(1e-9);
  };
  const double slope = random.uniform(-1.9, -1.2);
  const auto base = turbulence(slope);
  const double contrast = random.uniform(0.3, 1.3);
  auto light = torch::empty({3, height, width});
  const double mix = random.uniform(0.0, 0.5);
  const auto second = turbulence(slope);
  for (int c = 0; c < 3; ++c) {
    const double w = mix * (c - 1);
    light[c] = torch::exp(contrast * (base + w * second)) * random.uniform(0.4, 1.0);
  }
  if (random.chance(0.5)) {  // dust in front
    const auto depth =
        torch::exp(turbulence(random.uniform(-1.9, -1.3)) * random.uniform(0.5, 1.2));
    const double reddening = random.uniform(1.0, 1.6);
    for (int c = 0; c < 3; ++c) light[c] *= torch::exp(-0.4 * std::pow(reddening, c) * depth);
  }
  if (random.chance(0.35)) light *= 0.05;
  const auto ys = torch::arange(height).to(torch::kFloat).unsqueeze(1),
             xs = torch::arange(width).to(torch::kFloat).unsqueeze(0);
  const int galaxies = random.chance(0.4) ? 1 + random.index(12) : 0;
  for (int i = 0; i < galaxies; ++i) {
    const double n = random.uniform(0.6, 4.0), radius = random.log_uniform(1.0, 30.0),
                 q = random.uniform(0.2, 1.0);
    const double angle = random.uniform(0, std::numbers::pi), cy = random.uniform(0, height),
                 cx = random.uniform(0, width);
    const auto u = ((xs - cx) * std::cos(angle) + (ys - cy) * std::sin(angle));
    const auto v = (-(xs - cx) * std::sin(angle) + (ys - cy) * std::cos(angle)) / q;
    // Sersic 1963; softened by half a pixel so that steep centres stay resolved
    const auto r = (u.square() + v.square() + 0.25).sqrt() / radius;
    const auto profile = torch::exp(-(2 * n - 0.33) * (r.pow(1 / n) - 1)).clamp_max(200.0);
    const double brightness = random.log_uniform(0.02, 1.0) / 3, colour = random.uniform(-0.5, 0.5);
    for (int c = 0; c < 3; ++c) light[c] += profile * brightness * std::exp(colour * (1 - c));
  }
  return light / light.quantile(0.995).clamp_min(1e-9);
}

}  // namespace limpid
