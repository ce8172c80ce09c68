// Frames whose sky is known: gradients as towns and the Moon make them, objects, stars, noise.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <limpid/image.h>

namespace limpid::synthetic {

enum class Gradient { none, plane, dome, moon, mixture };
/// Nebula: bright, over a quarter of the frame. Cirrus: 1 to 3 sigma over a third of it.
enum class Object { none, nebula, cirrus };

struct SkySettings {
  Size size{1200, 800};
  int channels = 3;
  Gradient gradient = Gradient::plane;
  Object object = Object::none;
  float gradient_sigma = 20;  ///< darkest to brightest place of the sky, in units of the noise
  float sigma = 0.001F, level = 0.05F;
  int stars = 600;
  std::uint32_t seed = 1;
};

struct SkyFrame {
  Image frame, sky, object;  ///< the frame, and what of it is sky and object
};

/// Smooth noise: values of a lattice with cells of `cell` pixels, joined by cosines.
class ValueNoise {
 public:
  ValueNoise(float cell, std::uint32_t seed) : cell_(cell), seed_(seed) {}
  [[nodiscard]] float at(float x, float y) const {
    const float u = x / cell_, v = y / cell_;
    const auto i = static_cast<std::uint32_t>(u), j = static_cast<std::uint32_t>(v);
    const auto ease = [](float t) { return t * t * (3 - 2 * t); };
    const float a = ease(u - std::floor(u)), b = ease(v - std::floor(v));
    const float above = node(i, j) + a * (node(i + 1, j) - node(i, j));
    const float below = node(i, j + 1) + a * (node(i + 1, j + 1) - node(i, j + 1));
    return above + b * (below - above);
  }

 private:
  [[nodiscard]] float node(std::uint32_t i, std::uint32_t j) const {
    std::uint32_t h = i * 0x9e3779b1U ^ (j * 0x85ebca77U + seed_ * 0xc2b2ae3dU);
    h = (h ^ (h >> 15)) * 0x2c1b3c6dU;
    h = (h ^ (h >> 12)) * 0x297a2d39U;
    return static_cast<float>(h ^ (h >> 15)) / 4294967296.0F;
  }
  float cell_;
  std::uint32_t seed_;
};

/// Octaves from `largest` pixels down to 8, each of 0.6 times the amplitude of the last; about
/// 0..1.
inline float turbulence(float x, float y, float largest, std::uint32_t seed) {
  float sum = 0, amplitude = 1, total = 0;
  for (float cell = largest; cell >= 8; cell /= 2, amplitude *= 0.6F, ++seed) {
    sum += amplitude * ValueNoise(cell, seed).at(x, y);
    total += amplitude;
  }
  return sum / total;
}

/// Of one channel at shares u, v of the frame, before it is scaled to the wanted range.
inline float gradient_at(Gradient gradient, float u, float v, int channel) {
  constexpr std::array town{1.2F, 1.0F, 0.7F}, moon{0.8F, 1.0F, 1.2F}, air{0.9F, 1.1F, 1.0F};
  const auto c = static_cast<std::size_t>(channel);
  const auto distance = [u, v](float x, float y) { return std::hypot(1.5F * (u - x), v - y); };
  // a power law near the horizon (Walker 1977, PASP 89, 405), softened; not the shape limpid starts
  // with
  const float d = distance(1.05F, 1.1F) / 0.45F;
  const float dome = town[c] / (1 + d * d);
  const float glow = moon[c] * std::pow(0.5F + distance(-0.25F, -0.2F), -1.5F);
  const float plane = air[c] * (0.7F * u + 0.5F * v);
  switch (gradient) {
    case Gradient::none:
      return 0;
    case Gradient::plane:
      return plane;
    case Gradient::dome:
      return dome;
    case Gradient::moon:
      return glow;
    case Gradient::mixture:
      return 0.5F * plane + dome + 0.5F * glow + 0.15F * air[c] * v * (1 - v);
  }
  return 0;
}

/// In units of the noise.
inline float object_at(Object object, float x, float y, Size size, int channel,
                       std::uint32_t seed, float cirrus_level) {
  constexpr std::array red{1.3F, 0.8F, 0.7F};
  const float height = static_cast<float>(size.height);
  if (object == Object::nebula) {
    // an ellipse with ragged edges, a quarter of the frame
    const float u = x / static_cast<float>(size.width) - 0.42F, v = y / height - 0.52F;
    const float ragged = 0.35F * (turbulence(x, y, height / 4, seed) - 0.5F);
    const float inside = 1 - std::sqrt(u * u / 0.1F + v * v / 0.07F) + ragged;
    if (inside <= 0) return 0;
    const float edge = std::min(1.0F, 3 * inside);
    return 60 * edge * edge * red[static_cast<std::size_t>(channel)] *
           std::pow(turbulence(x, y, height / 3, seed + 20), 2.0F);
  }
  if (object == Object::cirrus) {
    // what of a turbulent field lies above `cirrus_level`, from 1 to 3 sigma
    const float t = turbulence(x, y, height / 2, seed + 40) - cirrus_level;
    return t <= 0 ? 0 : std::min(3.0F, 1 + 12 * t) * std::min(1.0F, t / 0.01F);
  }
  return 0;
}

/// What a third of the turbulent field lies above.
inline float cirrus_level(Size size, std::uint32_t seed) {
  std::vector<float> values;
  for (int y = 0; y < size.height; y += 8) {
    for (int x = 0; x < size.width; x += 8) {
      values.push_back(turbulence(static_cast<float>(x), static_cast<float>(y),
                                  static_cast<float>(size.height) / 2, seed + 40));
    }
  }
  const auto third = values.begin() + static_cast<std::ptrdiff_t>(values.size() * 2 / 3);
  std::nth_element(values.begin(), third, values.end());
  return *third;
}

inline SkyFrame make_sky(const SkySettings& s) {
  SkyFrame result{Image(s.channels, s.size), Image(s.channels, s.size), Image(s.channels, s.size)};
  float low = 1e30F, high = -1e30F;
  const auto share = [](int i, int length) {
    return (static_cast<float>(i) + 0.5F) / static_cast<float>(length);
  };
  for (int c = 0; c < s.channels; ++c) {
    for (int y = 0; y < s.size.height; ++y) {
      for (int x = 0; x < s.size.width; ++x) {
        const float value =
            gradient_at(s.gradient, share(x, s.size.width), share(y, s.size.height), c);
        result.sky.view()(c, y, x) = value;
        if (c == std::min(1, s.channels - 1)) {  // the range is that of green
          low = std::min(low, value);
          high = std::max(high, value);
        }
      }
    }
  }
  const float scale = high > low ? s.gradient_sigma * s.sigma / (high - low) : 0;
  for (float& value : result.sky.pixels())
    value = s.level + scale * (value - (high > low ? low : 0));
  const float cirrus = s.object == Object::cirrus ? cirrus_level(s.size, s.seed) : 0;
  for (int c = 0; c < s.channels; ++c) {
    for (int y = 0; y < s.size.height; ++y) {
      for (int x = 0; x < s.size.width; ++x) {
        const float value = s.sigma * object_at(s.object, static_cast<float>(x),
                                                static_cast<float>(y), s.size, c, s.seed, cirrus);
        result.object.view()(c, y, x) = value;
        result.frame.view()(c, y, x) = result.sky.view()(c, y, x) + value;
      }
    }
  }
  std::mt19937 random(s.seed);
  std::uniform_real_distribution<float> uniform(0, 1);
  for (int i = 0; i < s.stars; ++i) {
    const float x0 = uniform(random) * static_cast<float>(s.size.width),
                y0 = uniform(random) * static_cast<float>(s.size.height);
    const float peak = 10 * s.sigma / std::pow(uniform(random) + 1e-3F, 1.0F);
    constexpr float width = 1.4F;
    const int reach = peak > 200 * s.sigma ? 24 : 8;
    for (int y = std::max(0, static_cast<int>(y0) - reach);
         y < std::min(s.size.height, static_cast<int>(y0) + reach); ++y) {
      for (int x = std::max(0, static_cast<int>(x0) - reach);
           x < std::min(s.size.width, static_cast<int>(x0) + reach); ++x) {
        const float r2 =
            std::pow(static_cast<float>(x) - x0, 2.0F) + std::pow(static_cast<float>(y) - y0, 2.0F);
        const float light = peak * std::pow(1 + r2 / (width * width * 3), -3.0F);
        for (int c = 0; c < s.channels; ++c) result.frame.view()(c, y, x) += light;
      }
    }
  }
  std::normal_distribution<float> normal(0, s.sigma);
  for (float& pixel : result.frame.pixels()) pixel += normal(random);
  return result;
}

}  // namespace limpid::synthetic
