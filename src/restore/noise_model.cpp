#include "restore/noise_model.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <limpid/network.h>

#include "core/parallel.h"
#include "core/statistics.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

constexpr int block_px = 16;
constexpr int largest_radius_px = 3 * psf_kernel_px / 4;

struct Block {
  float light = 0;  ///< over the sky, mean
  float seen = 0;   ///< by a kernel that is blind to planes, sum of squares
};

/// Of the blocks without stars.
std::vector<Block> starless_blocks(ConstView channel, ConstView discs, float sky) {
  std::vector<Block> blocks;
  for (int y0 = 1; y0 + block_px < channel.height(); y0 += block_px) {
    for (int x0 = 1; x0 + block_px < channel.width(); x0 += block_px) {
      double light = 0, seen = 0;
      bool starless = true;
      for (int y = y0; y < y0 + block_px && starless; ++y) {
        const auto above = channel.row(0, y - 1), here = channel.row(0, y),
                   below = channel.row(0, y + 1), star = discs.row(0, y);
        for (auto x = static_cast<std::size_t>(x0); x < static_cast<std::size_t>(x0 + block_px);
             ++x) {
          starless = starless && star[x] == 0;
          light += static_cast<double>(here[x] - sky);
          const float curved = 4 * here[x] - 2 * (above[x] + below[x] + here[x - 1] + here[x + 1]) +
                               above[x - 1] + above[x + 1] + below[x - 1] + below[x + 1];
          seen += static_cast<double>(curved * curved);
        }
      }
      if (starless)
        blocks.push_back(
            {static_cast<float>(light / (block_px * block_px)), static_cast<float>(seen)});
    }
  }
  return blocks;
}

/// What the kernel sees of the sky's noise; of white noise where nebulae are everywhere.
float seen_of_sky(const std::vector<Block>& blocks, float sigma, std::size_t enough) {
  std::vector<float> seen;
  for (const Block& block : blocks) {
    if (std::abs(block.light) < 2 * sigma) seen.push_back(block.seen);
  }
  constexpr float white = 36 * block_px * block_px;  // squares of the kernel
  return seen.size() < enough ? white * sigma * sigma : median_in_place(seen);
}

}  // namespace

double star_radius(double peak, double fwhm_px, float sigma) {
  constexpr double beta = 3;
  const double alpha_per_fwhm = 0.5 / std::sqrt(std::exp2(1 / beta) - 1);
  const double ratio = peak / std::max(1e-12, 0.5 * static_cast<double>(sigma));
  if (ratio <= 1) return 0;
  return std::clamp(fwhm_px * alpha_per_fwhm * std::sqrt(std::pow(ratio, 1 / beta) - 1), 1.0,
                    static_cast<double>(largest_radius_px));
}

Image star_discs(const StarCatalogue& catalogue, double typical_fwhm_px, Rect part, int threads) {
  Image discs(1, part.size());
  if (catalogue.sky.empty()) return discs;
  constexpr double hidden = 100;  // how far a clipped peak may rise over the clipping
  const auto faintest = std::ranges::min(catalogue.sky, {}, &SkyLevel::sigma).sigma;
  struct Disc {
    const Star* star;
    double radius;
    Rect box;
  };
  std::vector<Disc> drawn;
  for (const Star& star : catalogue.stars) {
    if (intersect(square_around(star, largest_radius_px), part).size().pixels() == 0) continue;
    const double fwhm = star.fwhm_px > 0 ? static_cast<double>(star.fwhm_px) : typical_fwhm_px;
    const double peak = static_cast<double>(star.peak) * (star.saturated ? hidden : 1);
    const double radius = star_radius(peak, fwhm, faintest);
    if (radius > 0)
      drawn.push_back({&star, radius, square_around(star, static_cast<int>(std::ceil(radius)))});
  }
  // the first touch of a frame's memory takes longer than what is drawn there
  constexpr int band_px = 256;
  parallel_for((part.height + band_px - 1) / band_px, threads, [&](int i) {
    const Rect band = intersect({part.x, part.y + i * band_px, part.width, band_px}, part);
    for (const auto& [star, radius, box] : drawn) {
      for_pixels(intersect(box, band), [&, star = star, radius = radius](int x, int y) {
        if (std::hypot(x - static_cast<double>(star->x), y - static_cast<double>(star->y)) <=
            radius)
          discs.view()(0, y - part.y, x - part.x) = 1;
      });
    }
  });
  return discs;
}

float photon_share(ConstView channel, ConstView discs, const SkyLevel& sky) {
  constexpr std::size_t enough = 20;
  const auto blocks = starless_blocks(channel, discs, sky.sky);
  const float of_sky = seen_of_sky(blocks, sky.sigma, enough);
  std::vector<float> shares;
  for (const Block& block : blocks) {
    if (block.light > 5 * sky.sigma)
      shares.push_back((block.seen / of_sky - 1) * sky.sigma * sky.sigma / block.light);
  }
  return shares.size() < enough || !(of_sky > 0) ? 0 : std::max(0.0F, median_in_place(shares));
}

NoiseModel measure_noise(ConstView frame, const StarCatalogue& catalogue, double typical_fwhm_px,
                         int threads) {
  NoiseModel noise{catalogue.sky, std::vector<float>(static_cast<std::size_t>(frame.channels())),
                   catalogue.noise_correlation};
  const Image discs =
      star_discs(catalogue, typical_fwhm_px, {0, 0, frame.width(), frame.height()}, threads);
  parallel_for(frame.channels(), threads, [&](int c) {
    const auto at = static_cast<std::size_t>(c);
    noise.photon_shares[at] = photon_share(frame.channel(c), discs.view(), noise.sky[at]);
  });
  return noise;
}

}  // namespace limpid
