#include "restore/noise_model.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <limpid/network.h>

#include "core/lanes.h"
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

/// Of the block that begins at (x0, y0). Sums of eight columns side by side.
Block look_at(ConstView channel, int x0, int y0, float sky) {
  FloatLanes light{}, seen{};
  for (int y = y0; y < y0 + block_px; ++y) {
    const float *above = &channel(0, y - 1, x0), *here = &channel(0, y, x0),
                *below = &channel(0, y + 1, x0);
    for (int x = 0; x < block_px; x += float_lane_count) {
      const auto near = [x](const float* row, int by) { return load_floats(row + x + by); };
      const FloatLanes middle = near(here, 0);
      const FloatLanes sides = near(above, 0) + near(below, 0) + near(here, -1) + near(here, 1);
      const FloatLanes corners =
          near(above, -1) + near(above, 1) + near(below, -1) + near(below, 1);
      const FloatLanes curved = 4 * middle - 2 * sides + corners;
      light += middle - sky;
      seen += curved * curved;
    }
  }
  Block block;
  for (int lane = 0; lane < float_lane_count; ++lane) {
    block.light += light[lane] / (block_px * block_px);
    block.seen += seen[lane];
  }
  return block;
}

/// Blocks without stars, channel by channel.
using Blocks = std::vector<std::vector<Block>>;

/// Of the rows of blocks that begin at row y0, as many as `discs` is high.
Blocks starless_blocks(ConstView frame, ConstView discs, int y0, const std::vector<SkyLevel>& sky) {
  Blocks blocks(sky.size());
  for (int y = 0; y < discs.height(); y += block_px) {
    for (int x0 = 1; x0 + block_px < frame.width(); x0 += block_px) {
      float stars = 0;
      for (int j = y; j < y + block_px; ++j) {
        const float* star = &discs(0, j, x0);
        for (int i = 0; i < block_px; ++i) stars += star[i];
      }
      if (stars > 0) continue;
      for (int c = 0; c < frame.channels(); ++c) {
        const auto at = static_cast<std::size_t>(c);
        blocks[at].push_back(look_at(frame.channel(c), x0, y0 + y, sky[at].sky));
      }
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

/// How much noisier bright blocks are than faint ones, per unit of light.
float photon_share(const std::vector<Block>& blocks, const SkyLevel& sky) {
  constexpr std::size_t enough = 20;
  const float of_sky = seen_of_sky(blocks, sky.sigma, enough);
  std::vector<float> shares;
  for (const Block& block : blocks) {
    if (block.light > 5 * sky.sigma)
      shares.push_back((block.seen / of_sky - 1) * sky.sigma * sky.sigma / block.light);
  }
  return shares.size() < enough || !(of_sky > 0) ? 0 : std::max(0.0F, median_in_place(shares));
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
        const double dx = x - static_cast<double>(star->x), dy = y - static_cast<double>(star->y);
        if (dx * dx + dy * dy <= radius * radius) discs.view()(0, y - part.y, x - part.x) = 1;
      });
    }
  });
  return discs;
}

NoiseModel measure_noise(ConstView frame, const StarCatalogue& catalogue, double typical_fwhm_px,
                         int threads) {
  // a pixel's border is not looked at: its neighbours are not known
  const int rows = std::max(0, (frame.height() - 2) / block_px);
  constexpr int band_rows = 16;
  std::vector<Blocks> bands(static_cast<std::size_t>((rows + band_rows - 1) / band_rows));
  parallel_for(static_cast<int>(bands.size()), threads, [&](int band) {
    const int first = band * band_rows, count = std::min(band_rows, rows - first),
              y0 = 1 + first * block_px;
    const Image discs =
        star_discs(catalogue, typical_fwhm_px, {0, y0, frame.width(), count * block_px});
    bands[static_cast<std::size_t>(band)] = starless_blocks(frame, discs.view(), y0, catalogue.sky);
  });
  NoiseModel noise{catalogue.sky, {}, catalogue.noise_correlation};
  for (std::size_t c = 0; c < static_cast<std::size_t>(frame.channels()); ++c) {
    std::vector<Block> blocks;
    for (const Blocks& band : bands) blocks.insert(blocks.end(), band[c].begin(), band[c].end());
    noise.photon_shares.push_back(photon_share(blocks, noise.sky[c]));
  }
  return noise;
}

}  // namespace limpid
