#include "restore/halos.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "core/parallel.h"
#include "core/statistics.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

constexpr float least_sigma = 300;                // of a star's peak
constexpr float core_fwhm = 2, halo_fwhm = 3.5F;  // where the result ends, where the record begins
constexpr float far_fwhm = 16, far_px = 48;       // no halo is followed further
constexpr float patches_fwhm = 6, least_patch_sigma = 50;
constexpr float level_rings = 6;  // px: the outermost tell the level
constexpr float seen_sigma = 3;
constexpr float least_neighbour_snr = 8;
constexpr float clipped_share = 0.98F;

float ramp(float at, float from, float to) {
  const float t = (at - from) / (to - from);
  return t <= 0 ? 1 : t >= 1 ? 0 : 0.5F + 0.5F * std::cos(t * std::numbers::pi_v<float>);
}

struct Halo {
  const Star* star = nullptr;
  float core_px = 0;         ///< radius of its clipped pixels
  std::vector<float> share;  ///< by radius in px: how far it stands out
  std::vector<float> floor;  ///< per channel: its light where the record begins
};

float clipped_radius(ConstView before, const StarCatalogue& catalogue, const Star& star,
                     int reach) {
  if (!star.saturated || !catalogue.saturation) return 0;
  const Rect box = intersect(square_around(star, reach), {0, 0, before.width(), before.height()});
  std::size_t clipped = 0;
  for (int y = box.y; y < box.y + box.height; ++y) {
    for (int x = box.x; x < box.x + box.width; ++x) {
      bool any = false;
      for (int c = 0; c < before.channels(); ++c)
        any = any || before(c, y, x) >= clipped_share * *catalogue.saturation;
      clipped += any ? 1 : 0;
    }
  }
  return std::sqrt(static_cast<float>(clipped) / std::numbers::pi_v<float>);
}

Halo measure_halo(ConstView before, const StarCatalogue& catalogue, const Star& star,
                  float fwhm_px) {
  const int reach = static_cast<int>(std::max(10.0F, std::min(far_px, far_fwhm * fwhm_px)));
  Halo halo{.star = &star,
            .core_px = clipped_radius(before, catalogue, star, reach),
            .share = {},
            .floor = {}};
  const Rect box = intersect(square_around(star, reach), {0, 0, before.width(), before.height()});
  std::vector<std::vector<float>> rings(static_cast<std::size_t>(reach) + 1);
  for (int y = box.y; y < box.y + box.height; ++y) {
    for (int x = box.x; x < box.x + box.width; ++x) {
      const auto ring = static_cast<std::size_t>(distance(star, x, y));
      if (ring >= rings.size()) continue;
      float light = 0;
      for (int c = 0; c < before.channels(); ++c) light += before(c, y, x);
      rings[ring].push_back(light);
    }
  }
  std::vector<float> level, scatter;
  for (auto& ring : rings) {
    if (ring.empty()) break;
    level.push_back(median(ring));
    for (float& value : ring) value = std::abs(value - level.back());
    scatter.push_back(sigma_per_mad * median_in_place(ring));
  }
  const auto outer = static_cast<std::size_t>(level_rings);
  if (level.size() <= 2 * outer) return halo;
  const float far = median(std::span(level).last(outer));
  float lowest = level.front();
  for (std::size_t r = 0; r < level.size(); ++r) {
    lowest = std::min(lowest, level[r]);  // halos fall outwards: what rises again is something else
    const float over = std::max(0.0F, lowest - far), noise = seen_sigma * scatter[r];
    halo.share.push_back(over > 0 ? over * over / (over * over + noise * noise) : 0);
  }
  const auto begins = static_cast<std::size_t>(halo.core_px + halo_fwhm * fwhm_px);
  if (begins >= halo.share.size()) return halo;
  for (int c = 0; c < before.channels(); ++c) {
    std::vector<float> ring;
    for (int y = box.y; y < box.y + box.height; ++y) {
      for (int x = box.x; x < box.x + box.width; ++x) {
        if (static_cast<std::size_t>(distance(star, x, y)) == begins)
          ring.push_back(before(c, y, x));
      }
    }
    halo.floor.push_back(quantile(ring, 0.25F));
  }
  return halo;
}

/// Within a halo nothing may be darker than the halo is further out.
void raise_to_halo(const Halo& halo, Rect part, float to_px, ConstView before, MutableView after) {
  const auto begins = static_cast<std::size_t>(to_px);
  if (halo.floor.empty()) return;
  const float share = halo.share[begins];
  const Rect box = intersect(square_around(*halo.star, static_cast<int>(begins) + 1), part);
  for (int y = box.y; y < box.y + box.height; ++y) {
    for (int x = box.x; x < box.x + box.width; ++x) {
      if (distance(*halo.star, x, y) > to_px) continue;
      for (int c = 0; c < after.channels(); ++c) {
        float& at = after(c, y - part.y, x - part.x);
        const float least = std::min(halo.floor[static_cast<std::size_t>(c)], before(c, y, x));
        if (at < least) at += share * (least - at);
      }
    }
  }
}

/// Means over squares of 2 half + 1 px of a channel, over `box` of the frame; `origin`: where the
/// image begins.
std::vector<float> smoothed(ConstView image, Rect origin, int channel, Rect box, int half) {
  std::vector<float> means;
  means.reserve(box.size().pixels());
  for (int y = box.y - origin.y; y < box.y - origin.y + box.height; ++y) {
    for (int x = box.x - origin.x; x < box.x - origin.x + box.width; ++x) {
      float sum = 0, count = 0;
      for (int v = std::max(0, y - half); v <= std::min(image.height() - 1, y + half); ++v) {
        for (int u = std::max(0, x - half); u <= std::min(image.width() - 1, x + half); ++u)
          sum += image(channel, v, u), count += 1;
      }
      means.push_back(sum / count);
    }
  }
  return means;
}

/// Beside a star the mean of 25, or nine, pixels may not fall under that of its surroundings, where
/// it was not under it before. What is missing is added smoothly, so that the noise stays.
void raise_dark_patches(const Star& star, Rect part, float fwhm_px, ConstView before, int half,
                        MutableView after) {
  const auto reach = static_cast<int>(std::ceil(patches_fwhm * fwhm_px)) + 2;
  const Rect box = intersect(square_around(star, reach), part);
  if (box.size().pixels() == 0) return;
  const auto columns = static_cast<std::size_t>(box.width);
  for (int c = 0; c < after.channels(); ++c) {
    std::vector<float> around;
    for (int y = box.y; y < box.y + box.height; ++y) {
      for (int x = box.x; x < box.x + box.width; ++x) {
        if (distance(star, x, y) > halo_fwhm * fwhm_px) around.push_back(before(c, y, x));
      }
    }
    if (around.size() < 20) return;
    const float level = median(around);
    for (float& value : around) value = std::abs(value - level);
    const float slack = (half > 1 ? 0.3F : 0.7F) * sigma_per_mad * median_in_place(around);
    const auto was = smoothed(before, {}, c, box, half), is = smoothed(after, part, c, box, half);
    Image missing(1, box.size(), 0.0F);
    bool any = false;
    for (int y = 0; y < box.height; ++y) {
      for (int x = 0; x < box.width; ++x) {
        const auto at = static_cast<std::size_t>(y) * columns + static_cast<std::size_t>(x);
        const float least = std::min(was[at], level) - slack;
        if (is[at] >= least) continue;
        missing.view()(0, y, x) = least - is[at];
        any = true;
      }
    }
    if (!any) continue;
    const auto given = smoothed(missing.view(), {}, 0, {0, 0, box.width, box.height}, half);
    for (int y = 0; y < box.height; ++y) {
      for (int x = 0; x < box.width; ++x) {
        const float edge = ramp(distance(star, box.x + x, box.y + y), (patches_fwhm - 1) * fwhm_px,
                                patches_fwhm * fwhm_px);
        after(c, box.y + y - part.y, box.x + x - part.x) +=
            edge *
            std::max(missing.view()(0, y, x),
                     given[static_cast<std::size_t>(y) * columns + static_cast<std::size_t>(x)]);
      }
    }
  }
}

}  // namespace

int keep_halos(ConstView before, Rect part, const StarCatalogue& catalogue, float fwhm_px,
               MutableView after, int threads) {
  float noise = 0;
  for (const SkyLevel& sky : catalogue.sky) noise = std::max(noise, sky.sigma);
  std::vector<const Star*> bright;
  for (const Star& star : catalogue.stars) {
    const Rect reached = intersect(square_around(star, static_cast<int>(far_px)), part);
    if (!star.artefact && star.peak > least_sigma * noise && reached.size().pixels() > 0)
      bright.push_back(&star);
  }
  for (const int half : {2, 1}) {
    for (const Star& star : catalogue.stars) {
      if (!star.artefact && star.peak > least_patch_sigma * noise)
        raise_dark_patches(star, part, fwhm_px, before, half, after);
    }
  }
  std::vector<Halo> halos(bright.size());
  parallel_for(static_cast<int>(bright.size()), threads, [&](int i) {
    halos[static_cast<std::size_t>(i)] =
        measure_halo(before, catalogue, *bright[static_cast<std::size_t>(i)], fwhm_px);
  });

  Image kept(1, part.size(), 0.0F);
  const float from = core_fwhm * fwhm_px, to = halo_fwhm * fwhm_px;
  for (const Halo& halo : halos) {
    const auto reach = static_cast<int>(halo.share.size());
    const Rect box = intersect(square_around(*halo.star, reach), part);
    for (int y = box.y; y < box.y + box.height; ++y) {
      for (int x = box.x; x < box.x + box.width; ++x) {
        const float away = distance(*halo.star, x, y);
        const auto ring = static_cast<std::size_t>(away);
        if (ring + 1 >= halo.share.size()) continue;
        const float t = away - static_cast<float>(ring);
        const float share = (1 - t) * halo.share[ring] + t * halo.share[ring + 1];
        float& at = kept.view()(0, y - part.y, x - part.x);
        at = std::max(at, share * (1 - ramp(away, halo.core_px + from, halo.core_px + to)));
      }
    }
  }
  // stars in a halo are restored all the same, the brightest of all in their own
  const auto spare = [&](const Star& star, float core_px) {
    const Rect box =
        intersect(square_around(star, static_cast<int>(std::ceil(core_px + to))), part);
    for (int y = box.y; y < box.y + box.height; ++y) {
      for (int x = box.x; x < box.x + box.width; ++x) {
        kept.view()(0, y - part.y, x - part.x) *=
            1 - ramp(distance(star, x, y), core_px + from, core_px + to);
      }
    }
  };
  for (const Star& star : catalogue.stars) {
    if (!star.artefact && star.snr >= least_neighbour_snr && star.peak <= least_sigma * noise)
      spare(star, 0);
  }
  for (const Halo& halo : halos) spare(*halo.star, halo.core_px);

  parallel_for(part.height, threads, [&](int y) {
    const auto share = kept.view().row(0, y);
    for (int c = 0; c < after.channels(); ++c) {
      const auto row = after.row(c, y);
      const auto recorded = before.row(c, part.y + y);
      for (std::size_t x = 0; x < row.size(); ++x) {
        if (share[x] > 0)
          row[x] += share[x] * (recorded[static_cast<std::size_t>(part.x) + x] - row[x]);
      }
    }
  });
  for (const Halo& halo : halos)
    raise_to_halo(halo, part, halo.core_px + halo_fwhm * fwhm_px, before, after);
  return static_cast<int>(std::ranges::count_if(halos, [&](const Halo& halo) {
    const auto begins = static_cast<std::size_t>(halo.core_px + halo_fwhm * fwhm_px);
    return !halo.floor.empty() && halo.share[begins] > 0.5F;
  }));
}

void fill_clipped_cores(ConstView before, Rect part, const StarCatalogue& catalogue,
                        MutableView after, int threads) {
  if (!catalogue.saturation) return;
  std::vector<const Star*> clipped;
  for (const Star& star : catalogue.stars) {
    if (star.saturated && !star.artefact) clipped.push_back(&star);
  }
  const float level = clipped_share * *catalogue.saturation;
  std::vector<Rect> boxes(clipped.size());
  std::vector<Image> filled(clipped.size());
  parallel_for(static_cast<int>(clipped.size()), threads, [&](int i) {
    const auto index = static_cast<std::size_t>(i);
    const Rect box = intersect(square_around(*clipped[index], static_cast<int>(far_px)), part);
    if (box.size().pixels() == 0) return;
    boxes[index] = box;
    filled[index] = copy(after.crop({box.x - part.x, box.y - part.y, box.width, box.height}));
    for (int c = 0; c < after.channels(); ++c) {
      const auto inside = [&](int x, int y) {
        return x >= 0 && y >= 0 && x < box.width && y < box.height &&
               before(c, box.y + y, box.x + x) >= level;
      };
      const auto enclosed_by = [&](int x, int y) {
        float lowest = std::numeric_limits<float>::max();
        for (int dy = -1; dy <= 1; ++dy) {
          for (int dx = -1; dx <= 1; ++dx) {
            if (dx == 0 && dy == 0) continue;
            float highest = after(c, box.y + y - part.y, box.x + x - part.x);
            for (int u = x + dx, v = y + dy; inside(u, v); u += dx, v += dy)
              highest = std::max(highest, after(c, box.y + v - part.y, box.x + u - part.x));
            lowest = std::min(lowest, highest);
          }
        }
        return lowest;
      };
      for (int y = 0; y < box.height; ++y) {
        for (int x = 0; x < box.width; ++x) {
          if (inside(x, y)) filled[index].view()(c, y, x) = enclosed_by(x, y);
        }
      }
    }
  });
  // boxes may overlap: what one star raises, another leaves
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    for (int c = 0; c < filled[i].channels(); ++c) {
      for (int y = 0; y < boxes[i].height; ++y) {
        const auto from = filled[i].view().row(c, y);
        const auto to = after.row(c, boxes[i].y + y - part.y);
        for (int x = 0; x < boxes[i].width; ++x) {
          float& value = to[static_cast<std::size_t>(boxes[i].x + x - part.x)];
          value = std::max(value, from[static_cast<std::size_t>(x)]);
        }
      }
    }
  }
}

}  // namespace limpid
