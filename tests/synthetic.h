// Star fields of known truth, for tests and benchmarks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid::synthetic {

struct TrueStar {
  float x = 0, y = 0, flux = 0;
};

/// The profile without its shift, and its own centre: what renders a star.
inline void add_star(MutableView frame, const Psf& psf, const TrueStar& star, int channel = 0,
                     float reach_fwhm = 8) {
  const int reach = static_cast<int>(std::ceil(reach_fwhm * psf.fwhm_px)) + 2;
  const int x0 = static_cast<int>(std::lround(star.x)), y0 = static_cast<int>(std::lround(star.y));
  Psf centred = psf;
  centred.dx = star.x - static_cast<float>(x0) + psf.dx;
  centred.dy = star.y - static_cast<float>(y0) + psf.dy;
  const Image kernel = centred.kernel(2 * reach + 1);
  for (int y = std::max(0, y0 - reach); y <= std::min(frame.height() - 1, y0 + reach); ++y) {
    for (int x = std::max(0, x0 - reach); x <= std::min(frame.width() - 1, x0 + reach); ++x) {
      frame(channel, y, x) += star.flux * kernel.view()(0, y - y0 + reach, x - x0 + reach);
    }
  }
}

/// Gaussian noise of the sky, and shot noise of all light at `gain` electrons per unit (0: none).
inline void add_noise(MutableView frame, float sigma, float gain, float sky, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int c = 0; c < frame.channels(); ++c) {
    for (int y = 0; y < frame.height(); ++y) {
      for (float& pixel : frame.row(c, y)) {
        const float shot = gain > 0 ? std::max(pixel - sky, 0.0F) / gain : 0.0F;
        pixel += std::sqrt(sigma * sigma + shot) * normal(random);
      }
    }
  }
}

/// Flux at which an isolated star has this S/N against the sky alone, fitted with its own profile:
/// flux / (sigma / sqrt(sum P^2)).
inline float flux_for_snr(const Psf& psf, float snr, float sigma) {
  const int side = 2 * static_cast<int>(std::ceil(4 * psf.fwhm_px)) + 5;
  double squares = 0;
  const Image kernel = psf.kernel(side);
  for (const float value : kernel.pixels()) squares += static_cast<double>(value) * value;
  return static_cast<float>(snr * sigma / std::sqrt(squares));
}

struct FieldSettings {
  Size size{1024, 1024};
  int channels = 1;
  int stars = 300;
  float snr_min = 100, snr_max = 100;  ///< uniform in the logarithm
  float sky = 0.1F, sigma = 0.001F, gain = 0;
  float separation_px = 0;  ///< no two stars closer than this
  float margin_px = 12;
  std::uint32_t seed = 1;
  /// The PSF at a place in a channel.
  std::function<Psf(float x, float y, int channel)> psf = [](float, float, int) {
    return Psf{3.0F, 3.0F, 0, 0, 0, 0};
  };
};

struct Field {
  Image frame;
  std::vector<TrueStar> stars;
};

inline Field make_field(const FieldSettings& settings) {
  Field field{Image(settings.channels, settings.size, settings.sky), {}};
  std::mt19937 random(settings.seed);
  const auto uniform = [&random](float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random);
  };
  for (int tries = 0; static_cast<int>(field.stars.size()) < settings.stars && tries < 200 * settings.stars;
       ++tries) {
    const float x = uniform(settings.margin_px, static_cast<float>(settings.size.width - 1) - settings.margin_px);
    const float y = uniform(settings.margin_px, static_cast<float>(settings.size.height - 1) - settings.margin_px);
    const bool crowded = settings.separation_px > 0 &&
                         std::ranges::any_of(field.stars, [&](const TrueStar& other) {
                           return std::hypot(other.x - x, other.y - y) < settings.separation_px;
                         });
    if (crowded) continue;
    const float snr = std::exp(uniform(std::log(settings.snr_min), std::log(settings.snr_max)));
    const TrueStar star{x, y, flux_for_snr(settings.psf(x, y, 0), snr, settings.sigma)};
    field.stars.push_back(star);
    for (int c = 0; c < settings.channels; ++c) {
      add_star(field.frame.view(), settings.psf(x, y, c), star, c);
    }
  }
  add_noise(field.frame.view(), settings.sigma, settings.gain, settings.sky, settings.seed + 1);
  return field;
}

/// The catalogue's star nearest to this place, within `radius_px`; null when there is none.
inline const Star* find_star(const StarCatalogue& catalogue, float x, float y, float radius_px) {
  const Star* best = nullptr;
  for (const Star& star : catalogue.stars) {
    const float distance = std::hypot(star.x - x, star.y - y);
    if (distance < radius_px) {
      best = &star;
      radius_px = distance;
    }
  }
  return best;
}

}  // namespace limpid::synthetic
