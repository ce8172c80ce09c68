#include "restore/holes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace limpid {
namespace {

constexpr float light_sigma = 20, hole_sigma = -6, reach_fwhm = 12;
constexpr int soft_edge_px = 4;

struct Place {
  int x, y;
};

/// In units of the noise over the sky, largest and smallest of the channels.
class Levels {
 public:
  Levels(ConstView frame, const std::vector<SkyLevel>& sky) : frame_(frame), sky_(sky) {}
  [[nodiscard]] bool bright(int x, int y) const {
    for (int c = 0; c < frame_.channels(); ++c) {
      if (over_sky(frame_, c, x, y) > light_sigma) return true;
    }
    return false;
  }
  [[nodiscard]] bool hole(ConstView after, int x, int y) const {
    for (int c = 0; c < frame_.channels(); ++c) {
      if (over_sky(after, c, x, y) < hole_sigma && over_sky(frame_, c, x, y) > light_sigma)
        return true;
    }
    return false;
  }

 private:
  [[nodiscard]] float over_sky(ConstView frame, int c, int x, int y) const {
    const SkyLevel& level = sky_[static_cast<std::size_t>(c)];
    return level.sigma > 0 ? (frame(c, y, x) - level.sky) / level.sigma : 0;
  }

  ConstView frame_;
  const std::vector<SkyLevel>& sky_;
};

}  // namespace

int put_back_holes(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                   double fwhm_px) {
  const Levels levels(before, sky);
  std::vector<Place> seeds;
  for (int y = 0; y < before.height(); ++y) {
    for (int x = 0; x < before.width(); ++x) {
      if (levels.hole(after, x, y)) seeds.push_back({x, y});
    }
  }
  if (seeds.empty()) return 0;

  const double reach = reach_fwhm * fwhm_px;
  Image share(1, before.size());  // of the recorded frame in what is returned
  const auto weight = [&](Place p) -> float& { return share.view()(0, p.y, p.x); };
  const auto inside = [&](Place p) {
    return p.x >= 0 && p.y >= 0 && p.x < before.width() && p.y < before.height();
  };
  constexpr std::pair<int, int> steps[] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
  std::vector<Place> touched;
  int places = 0;
  for (const Place seed : seeds) {
    if (weight(seed) != 0) continue;
    ++places;
    weight(seed) = 1;
    std::vector<Place> star{seed};
    for (std::size_t i = 0; i < star.size(); ++i) {
      for (const auto& [dx, dy] : steps) {
        const Place next{star[i].x + dx, star[i].y + dy};
        if (!inside(next) || weight(next) != 0 || !levels.bright(next.x, next.y) ||
            std::hypot(next.x - seed.x, next.y - seed.y) > reach)
          continue;
        weight(next) = 1;
        star.push_back(next);
      }
    }
    touched.insert(touched.end(), star.begin(), star.end());
  }
  std::vector<Place> rim = touched;
  for (int step = 1; step <= soft_edge_px; ++step) {
    std::vector<Place> wider;
    for (const Place place : rim) {
      for (const auto& [dx, dy] : steps) {
        const Place next{place.x + dx, place.y + dy};
        if (!inside(next) || weight(next) != 0) continue;
        weight(next) = 1 - static_cast<float>(step) / (soft_edge_px + 1);
        wider.push_back(next);
      }
    }
    touched.insert(touched.end(), wider.begin(), wider.end());
    rim = std::move(wider);
  }
  for (const Place place : touched) {
    for (int c = 0; c < before.channels(); ++c) {
      float& value = after(c, place.y, place.x);
      const float share_before = weight(place);
      value = share_before * before(c, place.y, place.x) + (1 - share_before) * value;
    }
  }
  return places;
}

}  // namespace limpid
