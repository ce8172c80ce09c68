#include "restore/holes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "core/parallel.h"

namespace limpid {
namespace {

constexpr float light_sigma = 10, pixel_sigma = -6, mean_sigma = -3, star_sigma = 500,
                reach_fwhm = 12;
/// Shallower holes, as shares of the star's brightest light, are rings that can be filled.
constexpr float pixel_share = -0.01F, mean_share = -0.005F;
/// A deeper one in the core, at this share of the brightest light, or beside a star so bright that
/// a network has hardly seen its like, says that the star was not understood at all.
constexpr float core_share = 0.3F, brightest_mixed_sigma = 5000;
/// The darkest of many places lies about two sigma under the sky that is put in.
constexpr float filled_sigma = 1.5F;
constexpr int soft_edge_px = 4;

struct Place {
  int x, y;
};
struct Hole {
  Place place;
  float share;  ///< of the record that fills it
};

/// The recorded frame in units of the noise, over the darkest light nearby.
class Levels {
 public:
  Levels(ConstView frame, const std::vector<SkyLevel>& sky, double fwhm_px, int threads)
      : frame_(frame),
        sky_(sky),
        block_(std::max(4, static_cast<int>(std::lround(fwhm_px)))) {
    const Size blocks{(frame.width() + block_ - 1) / block_,
                      (frame.height() + block_ - 1) / block_};
    Image darkest(frame.channels(), blocks, 1e30F);
    brightest_ = Image(frame.channels(), blocks, -1e30F);
    parallel_for(blocks.height, threads, [&](int row) {
      // along columns first, eight of them at a time
      std::vector<float> low(static_cast<std::size_t>(frame.width())), high(low.size());
      for (int c = 0; c < frame.channels(); ++c) {
        const auto lowest = darkest.view().row(c, row), highest = brightest_.view().row(c, row);
        std::ranges::fill(low, lowest[0]);
        std::ranges::fill(high, highest[0]);
        for (int y = row * block_; y < std::min((row + 1) * block_, frame.height() - 1); ++y) {
          // pairs of pixels: a single one may be dead
          const auto upper = frame.row(c, y), lower = frame.row(c, y + 1);
          for (std::size_t x = 0; x + 1 < low.size(); ++x) {
            const float pair = std::max(upper[x], lower[x + 1]);
            low[x] = std::min(low[x], pair);
            high[x] = std::max(high[x], pair);
          }
        }
        for (std::size_t i = 0; i < lowest.size(); ++i) {
          const std::size_t first = i * static_cast<std::size_t>(block_),
                            end =
                                std::min(first + static_cast<std::size_t>(block_), low.size() - 1);
          for (std::size_t x = first; x < end; ++x) {
            lowest[i] = std::min(lowest[i], low[x]);
            highest[i] = std::max(highest[i], high[x]);
          }
        }
        for (float& value : lowest) value = in_sigma(c, value);
        for (float& value : highest) value = in_sigma(c, value);
      }
    });
    floor_ = extreme(darkest.view(), threads, [](float a, float b) { return std::min(a, b); });
    brightest_ =
        extreme(brightest_.view(), threads, [](float a, float b) { return std::max(a, b); });
  }

  /// Pixels at which the result has holes, row by row of blocks.
  [[nodiscard]] std::vector<Hole> holes(ConstView after, int threads) const {
    std::vector<std::vector<Hole>> rows(static_cast<std::size_t>(floor_.height()));
    parallel_for(floor_.height(), threads, [&](int j) {
      std::vector<Hole>& found = rows[static_cast<std::size_t>(j)];
      for (int i = 0; i < floor_.width(); ++i) {
        bool star = false;
        for (int c = 0; c < frame_.channels(); ++c) star |= beside_star(c, i, j);
        if (!star) continue;
        for (int y = j * block_; y < std::min((j + 1) * block_, frame_.height()); ++y) {
          for (int x = i * block_; x < std::min((i + 1) * block_, frame_.width()); ++x) {
            const float share = missing_share(after, x, y);
            if (share > 0) found.push_back({{x, y}, share});
          }
        }
      }
    });
    std::vector<Hole> all;
    for (const auto& found : rows) all.insert(all.end(), found.begin(), found.end());
    return all;
  }
  /// Raises what lies under the darkest place nearby, where light was recorded beside a star.
  void fill(MutableView after, int threads) const {
    parallel_for(floor_.view().height(), threads, [&](int j) {
      for (int c = 0; c < frame_.channels(); ++c) {
        const SkyLevel& level = sky_[static_cast<std::size_t>(c)];
        for (int i = 0; i < floor_.view().width(); ++i) {
          if (!beside_star(c, i, j)) continue;
          const float dark = floor_.view()(c, j, i);
          const float least = level.sky + level.sigma * dark,
                      filling = level.sky + level.sigma * (dark + filled_sigma),
                      light = level.sky + level.sigma * (dark + light_sigma);
          for (int y = j * block_; y < std::min((j + 1) * block_, frame_.height()); ++y) {
            for (int x = i * block_; x < std::min((i + 1) * block_, frame_.width()); ++x) {
              if (frame_(c, y, x) > light && after(c, y, x) < least) after(c, y, x) = filling;
            }
          }
        }
      }
    });
  }
  [[nodiscard]] bool bright(int x, int y) const {
    for (int c = 0; c < frame_.channels(); ++c) {
      if (over_sky(frame_, c, x, y) > floor(c, x, y) + light_sigma) return true;
    }
    return false;
  }

 private:
  [[nodiscard]] bool beside_star(int c, int column, int row) const {
    return brightest_.view()(c, row, column) > floor_.view()(c, row, column) + star_sigma;
  }
  /// Of the record that must be mixed in so that the pixel is no hole; 0: it is none.
  [[nodiscard]] float missing_share(ConstView after, int x, int y) const {
    float share = 0;
    for (int c = 0; c < frame_.channels(); ++c) {
      const float dark = floor(c, x, y), peak = brightest_.view()(c, y / block_, x / block_) - dark;
      if (!beside_star(c, x / block_, y / block_) ||
          over_sky(frame_, c, x, y) <= dark + light_sigma)
        continue;
      const auto look = [&](float was, float is, float sigma, float of_peak) {
        const float least = dark + std::min(sigma, of_peak * peak);
        if (is >= least) return;
        const bool ring = peak < brightest_mixed_sigma && was < dark + core_share * peak;
        share = std::max(share, ring && was > least ? (least - is) / (was - is) : 1);
      };
      look(over_sky(frame_, c, x, y), over_sky(after, c, x, y), pixel_sigma, pixel_share);
      look(mean_over_sky(frame_, c, x, y), mean_over_sky(after, c, x, y), mean_sigma, mean_share);
    }
    return share;
  }

  [[nodiscard]] float in_sigma(int c, float value) const {
    const SkyLevel& level = sky_[static_cast<std::size_t>(c)];
    return level.sigma > 0 ? (value - level.sky) / level.sigma : 0;
  }
  [[nodiscard]] float over_sky(ConstView frame, int c, int x, int y) const {
    return in_sigma(c, frame(c, y, x));
  }
  /// Of 3 x 3 px, fewer at the border.
  [[nodiscard]] float mean_over_sky(ConstView frame, int c, int x, int y) const {
    float sum = 0, count = 0;
    for (int j = std::max(0, y - 1); j <= std::min(frame.height() - 1, y + 1); ++j) {
      for (int i = std::max(0, x - 1); i <= std::min(frame.width() - 1, x + 1); ++i) {
        sum += over_sky(frame, c, i, j);
        ++count;
      }
    }
    return sum / count;
  }
  [[nodiscard]] float floor(int c, int x, int y) const {
    return floor_.view()(c, y / block_, x / block_);
  }
  /// Over the blocks up to five away, first along rows, then along columns.
  template <typename Choose>
  static Image extreme(ConstView blocks, int threads, Choose choose) {
    constexpr int away = 5;
    const int width = blocks.width(), height = blocks.height();
    Image rows = copy(blocks), result = copy(blocks);
    parallel_for(height, threads, [&](int y) {
      for (int c = 0; c < blocks.channels(); ++c) {
        const float* from = blocks.row(c, y).data();
        float* to = rows.view().row(c, y).data();
        for (int by = -away; by <= away; ++by) {
          const int end = std::min(width, width - by);
          for (int x = std::max(0, -by); x < end; ++x) to[x] = choose(to[x], from[x + by]);
        }
      }
    });
    parallel_for(height, threads, [&](int y) {
      for (int c = 0; c < blocks.channels(); ++c) {
        float* to = result.view().row(c, y).data();
        for (int j = std::max(0, y - away); j <= std::min(height - 1, y + away); ++j) {
          const float* from = rows.view().row(c, j).data();
          for (int x = 0; x < width; ++x) to[x] = choose(to[x], from[x]);
        }
      }
    });
    return result;
  }

  ConstView frame_;
  const std::vector<SkyLevel>& sky_;
  int block_;
  Image floor_, brightest_;
};

/// How much of the record is mixed in where.
class Mixture {
 public:
  Mixture(const Levels& levels, Size size, double reach_px)
      : levels_(levels),
        reach_px_(reach_px),
        shares_(1, size),
        needed_(1, size) {}

  /// Returns how many stars have holes: all connected light around each gets what its worst needs.
  int fill(const std::vector<Hole>& holes) {
    for (const Hole& hole : holes) needed_.view()(0, hole.place.y, hole.place.x) = hole.share;
    int stars = 0;
    for (const auto& [seed, seed_share] : holes) {
      if (share(seed) != 0) continue;
      ++stars;
      float most = share(seed) = seed_share;
      std::vector<Place> star{seed};
      for (std::size_t i = 0; i < star.size(); ++i) {
        most = std::max(most, needed_.view()(0, star[i].y, star[i].x));
        for (const auto& [dx, dy] : steps) {
          const Place next{star[i].x + dx, star[i].y + dy};
          if (!inside(next) || share(next) != 0 || !levels_.bright(next.x, next.y) ||
              std::hypot(next.x - seed.x, next.y - seed.y) > reach_px_)
            continue;
          share(next) = seed_share;
          star.push_back(next);
        }
      }
      for (const Place place : star) share(place) = most;
      touched_.insert(touched_.end(), star.begin(), star.end());
    }
    return stars;
  }

  void soften_edges() {
    std::vector<Place> rim = touched_;
    const auto edge = [](int step) { return 1 - static_cast<float>(step) / (soft_edge_px + 1); };
    for (int step = 1; step <= soft_edge_px; ++step) {
      std::vector<Place> wider;
      for (const Place place : rim) {
        const float of_star = share(place) / edge(step - 1);
        for (const auto& [dx, dy] : steps) {
          const Place next{place.x + dx, place.y + dy};
          if (!inside(next) || share(next) != 0) continue;
          share(next) = of_star * edge(step);
          wider.push_back(next);
        }
      }
      touched_.insert(touched_.end(), wider.begin(), wider.end());
      rim = std::move(wider);
    }
  }

  void apply(ConstView before, MutableView after) {
    for (const Place place : touched_) {
      for (int c = 0; c < before.channels(); ++c) {
        float& value = after(c, place.y, place.x);
        value = share(place) * before(c, place.y, place.x) + (1 - share(place)) * value;
      }
    }
  }

 private:
  static constexpr std::pair<int, int> steps[] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
  float& share(Place p) { return shares_.view()(0, p.y, p.x); }
  [[nodiscard]] bool inside(Place p) const {
    return p.x >= 0 && p.y >= 0 && p.x < shares_.width() && p.y < shares_.height();
  }

  const Levels& levels_;
  double reach_px_;
  Image shares_, needed_;
  std::vector<Place> touched_;
};

/// put_back_holes() where the levels are known.
int put_back(const Levels& levels, ConstView before, MutableView after, double fwhm_px,
             int threads) {
  const std::vector<Hole> holes = levels.holes(after, threads);
  if (holes.empty()) return 0;
  Mixture mixture(levels, before.size(), reach_fwhm * fwhm_px);
  const int stars = mixture.fill(holes);
  mixture.soften_edges();
  mixture.apply(before, after);
  return stars;
}

}  // namespace

int put_back_holes(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                   double fwhm_px, int threads) {
  return put_back(Levels(before, sky, fwhm_px, threads), before, after, fwhm_px, threads);
}

void fill_rings(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                double fwhm_px, int threads) {
  Levels(before, sky, fwhm_px, threads).fill(after, threads);
}

int mend_darkness(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                  double fwhm_px, int threads) {
  const Levels levels(before, sky, fwhm_px, threads);
  const int places = put_back(levels, before, after, fwhm_px, threads);
  levels.fill(after, threads);
  return places;
}

}  // namespace limpid
