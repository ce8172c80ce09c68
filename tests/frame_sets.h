// Sets of registered frames of one sky, each with its own blur, for tests, benchmarks and figures.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <limpid/image.h>
#include <limpid/multiframe.h>
#include <limpid/stars.h>

#include "synthetic.h"

namespace limpid::synthetic {

struct FrameSetSettings {
  Size size{320, 320};
  int channels = 1, frames = 8;
  float fwhm_low = 2.4F, fwhm_high = 6;  ///< of the sharpest and the softest frame
  float beta = 3, ellipticity = 0.1F;    ///< its direction turns from frame to frame
  float sigma = 1, gain = 0;             ///< noise of the sky, electrons per unit (0: no shot noise)
  float sky = 100;
  float snr_low = 60, snr_high = 1500;   ///< of the stars in a frame of 4 px
  float spacing_px = 40;                 ///< of the jittered lattice of stars
  float nebula_sigma = 0;                ///< brightness of the nebula in units of sigma
  bool satellites = false;               ///< a trail in every third frame, the first included
  int cosmic_rays = 0;                   ///< per frame
  float sky_step = 0, scale_step = 0;    ///< sky and transparency change from frame to frame
  std::uint32_t seed = 1;
};

struct FrameSet {
  std::vector<Image> frames;
  std::vector<TrueStar> stars;
  std::vector<Psf> psfs;
  Image nebula;       ///< what is not stars, unblurred, (1, height, width)
  Image outliers;     ///< 1 where any frame has a satellite or a cosmic ray
  FrameSetSettings settings;

  /// The sky as a perfect telescope of this PSF would record it on a grid `factor` times as fine:
  /// no noise, light per pixel of that grid, without the sky's level.
  [[nodiscard]] Image ideal(float fwhm_px, int factor = 1) const;
  [[nodiscard]] std::vector<InputFrame> inputs() const {
    std::vector<InputFrame> list;
    for (std::size_t i = 0; i < frames.size(); ++i) {
      const ConstView view = frames[i].view();
      InputFrame input;
      input.name = "frame " + std::to_string(i + 1);
      input.size = view.size();
      input.channels = view.channels();
      input.read = [view](Rect rect) { return copy(view.crop(rect)); };
      list.push_back(std::move(input));
    }
    return list;
  }
};

/// Filaments: a sum of waves, sharpened.
inline Image draw_nebula(Size size, float brightness, std::uint32_t seed) {
  Image nebula(1, size);
  if (brightness <= 0) return nebula;
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0, 1);
  struct Wave {
    float kx, ky, phase, height;
  };
  std::vector<Wave> waves;
  for (int i = 0; i < 60; ++i) {
    const float length_px = 12 * std::pow(20.0F, uniform(random)), angle = 6.2832F * uniform(random);
    waves.push_back({6.2832F / length_px * std::cos(angle), 6.2832F / length_px * std::sin(angle),
                     6.2832F * uniform(random), std::sqrt(length_px)});
  }
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      float sum = 0;
      for (const Wave& wave : waves)
        sum += wave.height * std::sin(wave.kx * static_cast<float>(x) + wave.ky * static_cast<float>(y) +
                                      wave.phase);
      const float ridge = 1 - std::min(1.0F, std::abs(sum) / 40);
      nebula.view()(0, y, x) = brightness * ridge * ridge * ridge;
    }
  }
  return nebula;
}

/// `image` blurred by a PSF, by summing up; the edge is continued by mirroring.
inline Image blurred(ConstView image, const Psf& psf) {
  const int reach = static_cast<int>(std::ceil(4 * psf.fwhm_px));
  const Image kernel = psf.kernel(2 * reach + 1);
  const Image wide = extract_mirrored(
      image, {-reach, -reach, image.width() + 2 * reach, image.height() + 2 * reach});
  Image out(1, image.size());
  for (int y = 0; y < out.height(); ++y) {
    const auto to = out.view().row(0, y);
    for (int v = -reach; v <= reach; ++v) {
      const auto from = wide.view().row(0, y + reach - v);
      for (int u = -reach; u <= reach; ++u) {
        const float weight = kernel.view()(0, v + reach, u + reach);
        if (weight < 1e-6F) continue;
        const float* source = from.data() + reach - u;
        for (std::size_t x = 0; x < to.size(); ++x) to[x] += weight * source[x];
      }
    }
  }
  return out;
}

inline Image FrameSet::ideal(float fwhm_px, int factor) const {
  const auto f = static_cast<float>(factor);
  const Psf psf{fwhm_px * f, 4, 0, 0, 0, 0};
  Image image(1, {settings.size.width * factor, settings.size.height * factor});
  const Image soft = blurred(nebula.view(), {fwhm_px, 4, 0, 0, 0, 0});
  for (int y = 0; y < image.height(); ++y) {
    for (int x = 0; x < image.width(); ++x)
      image.view()(0, y, x) = soft.view()(0, y / factor, x / factor) / (f * f);
  }
  for (const TrueStar& star : stars) {
    add_star(image.view(), psf,
             {(star.x + 0.5F) * f - 0.5F, (star.y + 0.5F) * f - 0.5F, star.flux}, 0, 20);
  }
  return image;
}

inline FrameSet make_frame_set(const FrameSetSettings& s) {
  FrameSet set;
  set.settings = s;
  std::mt19937 random(s.seed);
  std::uniform_real_distribution<float> uniform(0, 1);
  const Psf middle{4, s.beta, 0, 0, 0, 0};
  for (float y = 22; y < static_cast<float>(s.size.height) - 20; y += s.spacing_px) {
    for (float x = 22; x < static_cast<float>(s.size.width) - 20; x += s.spacing_px) {
      const float snr = s.snr_low * std::pow(s.snr_high / s.snr_low, uniform(random));
      set.stars.push_back({x + 8 * (uniform(random) - 0.5F), y + 8 * (uniform(random) - 0.5F),
                           flux_for_snr(middle, snr, s.sigma)});
    }
  }
  set.nebula = draw_nebula(s.size, s.nebula_sigma * s.sigma, s.seed + 1);
  set.outliers = Image(1, s.size);
  for (int i = 0; i < s.frames; ++i) {
    const float part = s.frames > 1 ? static_cast<float>(i) / static_cast<float>(s.frames - 1) : 0;
    // not in order of the width: the first frame is a middling one
    const float spread = std::fmod(part * 0.99F + 0.4F, 1.0F);
    const float angle = 2.4F * static_cast<float>(i);
    const Psf psf{s.fwhm_low * std::pow(s.fwhm_high / s.fwhm_low, spread), s.beta,
                  s.ellipticity * std::cos(angle), s.ellipticity * std::sin(angle), 0, 0};
    set.psfs.push_back(psf);
    Image frame(s.channels, s.size);
    const Image nebula = s.nebula_sigma > 0 ? blurred(set.nebula.view(), psf) : set.nebula.clone();
    const float scale = 1 + s.scale_step * (part - 0.5F), sky = s.sky + s.sky_step * static_cast<float>(i);
    for (int c = 0; c < s.channels; ++c) {
      std::ranges::copy(nebula.pixels(), frame.view().row(c, 0).begin());
      for (const TrueStar& star : set.stars) add_star(frame.view(), psf, star, c, 20);
      for (float& pixel : frame.pixels().subspan(static_cast<std::size_t>(c) * s.size.pixels(), s.size.pixels()))
        pixel = pixel * scale + sky;
    }
    add_noise(frame.view(), s.sigma, s.gain, sky, s.seed + 100 + static_cast<std::uint32_t>(i));
    const auto hit = [&](int x, int y, float light) {
      if (x < 0 || y < 0 || x >= s.size.width || y >= s.size.height) return;
      for (int c = 0; c < s.channels; ++c) frame.view()(c, y, x) += light * s.sigma;
      set.outliers.view()(0, y, x) = 1;
    };
    if (s.satellites && i % 3 == 0) {
      const float slope = 0.3F + 0.2F * static_cast<float>(i), start = 40 * uniform(random);
      for (int x = 0; x < s.size.width; ++x) {
        const float y = start + slope * static_cast<float>(x);
        for (int d = -3; d <= 3; ++d) {
          const float away = std::floor(y) + static_cast<float>(d) - y;
          hit(x, static_cast<int>(std::floor(y)) + d, 80 * std::exp(-0.5F * away * away));
        }
      }
    }
    for (int k = 0; k < s.cosmic_rays; ++k) {
      const int x = static_cast<int>(uniform(random) * static_cast<float>(s.size.width));
      const int y = static_cast<int>(uniform(random) * static_cast<float>(s.size.height));
      const float light = 30 + 400 * uniform(random);
      hit(x, y, light);
      if (uniform(random) < 0.5F) hit(x + 1, y, 0.6F * light);
    }
    set.frames.push_back(std::move(frame));
  }
  return set;
}

/// Light within 12 px of (x, y) over the true light `flux`, both over a ring, from the difference
/// to the truth (or to another image); pixels of a frame, of which the image has `factor` times as
/// many. No step depends on the order of the pixels, so that a nebula drawn sharper than the
/// truth's 2 px counts for nothing. (The median of a ring falls when filaments become sharper: by
/// that measure stars before a nebula came out 2 % too bright which are right within 0.2 %.)
inline double light_against_truth(ConstView image, ConstView truth, double x, double y, double flux,
                                  int factor = 1) {
  double inside = 0, ring = 0;
  int inside_count = 0, ring_count = 0;
  const int reach = 22 * factor, x0 = static_cast<int>(std::lround(x)),
            y0 = static_cast<int>(std::lround(y));
  for (int v = std::max(0, y0 - reach); v <= std::min(image.height() - 1, y0 + reach); ++v) {
    for (int u = std::max(0, x0 - reach); u <= std::min(image.width() - 1, x0 + reach); ++u) {
      const double away = std::hypot(u - x, v - y) / factor;
      const double difference = static_cast<double>(image(0, v, u)) - truth(0, v, u);
      if (away <= 12) {
        inside += difference;
        ++inside_count;
      } else if (away > 17 && away <= 22) {
        ring += difference;
        ++ring_count;
      }
    }
  }
  return 1 + (inside - ring / ring_count * inside_count) / flux;
}

}  // namespace limpid::synthetic
