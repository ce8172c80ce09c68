#include "restore/halos.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "core/box_mean.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

constexpr float least_sigma = 300;                // of a star's peak
constexpr float core_fwhm = 2, halo_fwhm = 3.5F;  // where the result ends, where the record begins
constexpr float far_fwhm = 16, far_px = 48;       // no halo is followed further
constexpr float patches_fwhm = 6, least_patch_sigma = 50;
constexpr std::size_t level_rings = 6;  // px: the outermost tell the level
constexpr float seen_sigma = 3;
constexpr float least_neighbour_snr = 8;

/// A star's light further out.
struct Halo {
  const Star* star = nullptr;
  float from_px = 0, to_px = 0;  ///< where the result ends, where the record begins
  std::vector<float> share;      ///< by radius in px: how far it stands out
  std::vector<float> floor;      ///< per channel: its light where the record begins; empty: none
  [[nodiscard]] float share_at_beginning() const {
    return floor.empty() ? 0 : share[static_cast<std::size_t>(to_px)];
  }
};

float clipped_radius(const RestoredPart& known, const Star& star, Rect box) {
  if (!star.saturated || !known.catalogue.saturation) return 0;
  const float level = clipped_share * *known.catalogue.saturation;
  std::size_t clipped = 0;
  for_pixels(box, [&](int x, int y) { clipped += any_reaches(known.before, level, x, y) ? 1 : 0; });
  return std::sqrt(static_cast<float>(clipped) / std::numbers::pi_v<float>);
}

Halo measure_halo(const RestoredPart& known, const Star& star) {
  const ConstView before = known.before;
  const int reach = static_cast<int>(std::max(10.0F, std::min(far_px, far_fwhm * known.fwhm_px)));
  const Rect box = intersect(square_around(star, reach), {0, 0, before.width(), before.height()});
  Halo halo;
  halo.star = &star;
  const float core_px = clipped_radius(known, star, box);
  halo.from_px = core_px + core_fwhm * known.fwhm_px;
  halo.to_px = core_px + halo_fwhm * known.fwhm_px;
  std::vector<std::vector<float>> rings(static_cast<std::size_t>(reach) + 1);
  for_pixels(box, [&](int x, int y) {
    const auto ring = static_cast<std::size_t>(distance(star, x, y));
    if (ring >= rings.size()) return;
    float light = 0;
    for (int c = 0; c < before.channels(); ++c) light += before(c, y, x);
    rings[ring].push_back(light);
  });
  std::vector<float> level, scatter;
  for (const auto& ring : rings) {
    if (ring.empty()) break;
    const Spread spread = robust_spread(ring);
    level.push_back(spread.median);
    scatter.push_back(spread.sigma);
  }
  if (level.size() <= 2 * level_rings) return halo;
  const float far = median(std::span(level).last(level_rings));
  float lowest = level.front();
  for (std::size_t r = 0; r < level.size(); ++r) {
    lowest = std::min(lowest, level[r]);  // halos fall outwards: what rises again is something else
    const float over = std::max(0.0F, lowest - far), noise = seen_sigma * scatter[r];
    halo.share.push_back(over > 0 ? over * over / (over * over + noise * noise) : 0);
  }
  const auto begins = static_cast<std::size_t>(halo.to_px);
  if (begins >= halo.share.size()) return halo;
  for (int c = 0; c < before.channels(); ++c) {
    std::vector<float> ring;
    for_pixels(box, [&](int x, int y) {
      if (static_cast<std::size_t>(distance(star, x, y)) == begins) ring.push_back(before(c, y, x));
    });
    halo.floor.push_back(quantile(ring, 0.25F));
  }
  return halo;
}

/// Within a halo nothing may be darker than the halo is further out.
void raise_to_halo(const Halo& halo, const RestoredPart& known, MutableView after) {
  if (halo.floor.empty()) return;
  const Rect part = known.part;
  const float share = halo.share_at_beginning();
  const auto reach = static_cast<int>(halo.to_px) + 1;
  for_pixels(intersect(square_around(*halo.star, reach), part), [&](int x, int y) {
    if (distance(*halo.star, x, y) > halo.to_px) return;
    for (int c = 0; c < after.channels(); ++c) {
      float& at = after(c, y - part.y, x - part.x);
      const float least = std::min(halo.floor[static_cast<std::size_t>(c)], known.before(c, y, x));
      if (at < least) at += share * (least - at);
    }
  });
}

/// Means over squares of 2 half + 1 px of one channel, over `box` of the frame; `origin`: where the
/// image begins. Squares end at the image's edge.
Image smoothed(ConstView image, Rect origin, Rect box, int half) {
  const Rect here{box.x - origin.x, box.y - origin.y, box.width, box.height},
      seen = intersect(grown(here, half), {0, 0, image.width(), image.height()});
  const Image means = box_mean(image.crop(seen), half);
  return copy(means.view().crop({here.x - seen.x, here.y - seen.y, box.width, box.height}));
}

/// What lies around a star in which patches may be too dark.
struct Surroundings {
  const Star* star = nullptr;
  Rect box;
  std::vector<Spread> levels;  ///< per channel; fewer where there is too little
};

Surroundings surroundings_of(const Star& star, const RestoredPart& known) {
  const auto reach = static_cast<int>(std::ceil(patches_fwhm * known.fwhm_px)) + 2;
  Surroundings around{&star, intersect(square_around(star, reach), known.part), {}};
  constexpr std::size_t fewest = 20;
  std::vector<std::pair<int, int>> places;
  for_pixels(around.box, [&](int x, int y) {
    if (distance(star, x, y) > halo_fwhm * known.fwhm_px) places.emplace_back(x, y);
  });
  if (places.size() < fewest) return around;
  std::vector<float> values(places.size());
  for (int c = 0; c < known.before.channels(); ++c) {
    std::ranges::transform(places, values.begin(), [&](const auto& place) {
      return known.before(c, place.second, place.first);
    });
    around.levels.push_back(robust_spread(values));
  }
  return around;
}

/// Beside a star the mean of 25, or nine, pixels may not fall under that of its surroundings, where
/// it was not under it before. What is missing is added smoothly, so that the noise stays.
void raise_dark_patches(const Surroundings& around, const RestoredPart& known, int half,
                        MutableView after) {
  const Rect box = around.box, part = known.part;
  for (std::size_t c = 0; c < around.levels.size(); ++c) {
    const int channel = static_cast<int>(c);
    const auto [level, sigma] = around.levels[c];
    const float slack = (half > 1 ? 0.3F : 0.7F) * sigma;
    const Image was = smoothed(known.before.channel(channel), {}, box, half);
    Image missing = smoothed(after.channel(channel), part, box, half);
    bool any = false;
    for (std::size_t i = 0; i < missing.pixels().size(); ++i) {
      float& value = missing.pixels()[i];
      value = std::max(0.0F, std::min(was.pixels()[i], level) - slack - value);
      any |= value > 0;
    }
    if (!any) continue;
    const Image given = box_mean(missing.view(), half);
    std::size_t i = 0;
    for_pixels(box, [&](int x, int y) {
      const float edge = falling(distance(*around.star, x, y), (patches_fwhm - 1) * known.fwhm_px,
                                 patches_fwhm * known.fwhm_px);
      after(channel, y - part.y, x - part.x) +=
          edge * std::max(missing.pixels()[i], given.pixels()[i]);
      ++i;
    });
  }
}

/// In groups to be worked on one after the other: of two that may see each other's pixels the first
/// comes before the second. Told by squares of 16 px, so that many stars are no matter.
std::vector<std::vector<const Surroundings*>> in_turns(const std::vector<Surroundings>& patches,
                                                       Rect part) {
  constexpr int square_px = 16, widest_half = 2;
  const Size squares{part.width / square_px + 1, part.height / square_px + 1};
  std::vector<std::size_t> next_turn(squares.pixels(), 0);
  std::vector<std::vector<const Surroundings*>> turns;
  for (const Surroundings& patch : patches) {
    const Rect seen = intersect(grown(patch.box, widest_half), part);
    const int left = (seen.x - part.x) / square_px, top = (seen.y - part.y) / square_px,
              right = (seen.x - part.x + seen.width) / square_px,
              bottom = (seen.y - part.y + seen.height) / square_px;
    const auto next_at = [&](int x, int y) -> std::size_t& {
      return next_turn[static_cast<std::size_t>(y) * static_cast<std::size_t>(squares.width) +
                       static_cast<std::size_t>(x)];
    };
    const Rect covered{left, top, right - left + 1, bottom - top + 1};
    std::size_t turn = 0;
    for_pixels(covered, [&](int x, int y) { turn = std::max(turn, next_at(x, y)); });
    for_pixels(covered, [&](int x, int y) { next_at(x, y) = turn + 1; });
    if (turn == turns.size()) turns.emplace_back();
    turns[turn].push_back(&patch);
  }
  return turns;
}

/// (1, part): how far the record stays.
Image kept_shares(const std::vector<Halo>& halos, const RestoredPart& known, float least_peak,
                  Rect part) {
  Image kept(1, part.size(), 0.0F);
  for (const Halo& halo : halos) {
    const auto reach = static_cast<int>(halo.share.size());
    for_pixels(intersect(square_around(*halo.star, reach), part), [&](int x, int y) {
      const float away = distance(*halo.star, x, y);
      const auto ring = static_cast<std::size_t>(away);
      if (ring + 1 >= halo.share.size()) return;
      const float t = away - static_cast<float>(ring);
      const float share = (1 - t) * halo.share[ring] + t * halo.share[ring + 1];
      float& at = kept.view()(0, y - part.y, x - part.x);
      at = std::max(at, share * (1 - falling(away, halo.from_px, halo.to_px)));
    });
  }
  // stars in a halo are restored all the same, the brightest of all in their own
  const auto spare = [&](const Star& star, float from_px, float to_px) {
    const auto reach = static_cast<int>(std::ceil(to_px));
    for_pixels(intersect(square_around(star, reach), part), [&](int x, int y) {
      kept.view()(0, y - part.y, x - part.x) *= 1 - falling(distance(star, x, y), from_px, to_px);
    });
  };
  for (const Star& star : known.catalogue.stars) {
    if (!star.artefact && star.snr >= least_neighbour_snr && star.peak <= least_peak)
      spare(star, core_fwhm * known.fwhm_px, halo_fwhm * known.fwhm_px);
  }
  for (const Halo& halo : halos) spare(*halo.star, halo.from_px, halo.to_px);
  return kept;
}

/// Stars brighter than this whose light may reach into the part.
std::vector<const Star*> bright_stars(const RestoredPart& known, float least_peak, float reach_px) {
  std::vector<const Star*> bright;
  for (const Star& star : known.catalogue.stars) {
    const Rect reached = intersect(square_around(star, static_cast<int>(reach_px)), known.part);
    if (!star.artefact && star.peak > least_peak && reached.size().pixels() > 0)
      bright.push_back(&star);
  }
  return bright;
}

/// What `of` says of each star.
template <typename Of>
auto of_each(const std::vector<const Star*>& stars, int threads, Of of) {
  std::vector<decltype(of(*stars.front()))> results(stars.size());
  parallel_for(static_cast<int>(stars.size()), threads, [&](int i) {
    const auto index = static_cast<std::size_t>(i);
    results[index] = of(*stars[index]);
  });
  return results;
}

}  // namespace

int keep_halos(const RestoredPart& known, MutableView after) {
  float noise = 0;
  for (const SkyLevel& sky : known.catalogue.sky) noise = std::max(noise, sky.sigma);
  const float patches_px = std::ceil(patches_fwhm * known.fwhm_px) + 2;
  const auto patches =
      of_each(bright_stars(known, least_patch_sigma * noise, patches_px), known.threads,
              [&](const Star& star) { return surroundings_of(star, known); });
  const auto turns = in_turns(patches, known.part);
  for (const int half : {2, 1}) {
    for (const auto& turn : turns) {
      parallel_for(static_cast<int>(turn.size()), known.threads, [&](int i) {
        raise_dark_patches(*turn[static_cast<std::size_t>(i)], known, half, after);
      });
    }
  }
  const auto halos = of_each(bright_stars(known, least_sigma * noise, far_px), known.threads,
                             [&](const Star& star) { return measure_halo(known, star); });
  if (halos.empty()) return 0;
  const Rect part = known.part;
  constexpr int band_px = 128;  // few rows need little memory, which stays in the cache
  parallel_for((part.height + band_px - 1) / band_px, known.threads, [&](int i) {
    const Rect band = intersect({part.x, part.y + i * band_px, part.width, band_px}, part);
    const Image kept = kept_shares(halos, known, least_sigma * noise, band);
    for (int c = 0; c < after.channels(); ++c) {
      for (int y = 0; y < band.height; ++y) {
        const auto share = kept.view().row(0, y);
        const auto row = after.row(c, band.y + y - part.y);
        const auto recorded = known.before.row(c, band.y + y);
        for (std::size_t x = 0; x < row.size(); ++x) {
          if (share[x] > 0)
            row[x] += share[x] * (recorded[static_cast<std::size_t>(part.x) + x] - row[x]);
        }
      }
    }
  });
  for (const Halo& halo : halos) raise_to_halo(halo, known, after);
  return static_cast<int>(std::ranges::count_if(
      halos, [](const Halo& halo) { return halo.share_at_beginning() > 0.5F; }));
}

}  // namespace limpid
