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
/// Shallower holes, as shares of the star's brightest light, are rings that can be filled, unless
/// the star is so bright that a network has hardly seen its like.
constexpr float pixel_share = -0.01F, mean_share = -0.005F, brightest_filled_sigma = 5000;
/// The darkest of many places lies about two sigma under the sky that is put in.
constexpr float filled_sigma = 1.5F;
constexpr int soft_edge_px = 4;

struct Place {
  int x, y;
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
      for (int c = 0; c < frame.channels(); ++c) {
        for (int y = row * block_; y < std::min((row + 1) * block_, frame.height() - 1); ++y) {
          // pairs of pixels: a single one may be dead
          for (int x = 0; x + 1 < frame.width(); ++x) {
            const float pair = std::max(frame(c, y, x), frame(c, y + 1, x + 1));
            float& low = darkest.view()(c, row, x / block_);
            float& high = brightest_.view()(c, row, x / block_);
            low = std::min(low, pair);
            high = std::max(high, pair);
          }
        }
        for (int x = 0; x < blocks.width; ++x) {
          darkest.view()(c, row, x) = in_sigma(c, darkest.view()(c, row, x));
          brightest_.view()(c, row, x) = in_sigma(c, brightest_.view()(c, row, x));
        }
      }
    });
    floor_ = extreme(darkest.view(), [](float a, float b) { return std::min(a, b); });
    brightest_ = extreme(brightest_.view(), [](float a, float b) { return std::max(a, b); });
  }

  /// Pixels at which the result has holes, row by row of blocks.
  [[nodiscard]] std::vector<Place> holes(ConstView after) const {
    std::vector<Place> found;
    for (int j = 0; j < floor_.view().height(); ++j) {
      for (int i = 0; i < floor_.view().width(); ++i) {
        bool star = false;
        for (int c = 0; c < frame_.channels(); ++c) star |= beside_star(c, i, j);
        if (!star) continue;
        for (int y = j * block_; y < std::min((j + 1) * block_, frame_.height()); ++y) {
          for (int x = i * block_; x < std::min((i + 1) * block_, frame_.width()); ++x) {
            if (hole(after, x, y)) found.push_back({x, y});
          }
        }
      }
    }
    return found;
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
  [[nodiscard]] bool hole(ConstView after, int x, int y) const {
    for (int c = 0; c < frame_.channels(); ++c) {
      const float dark = floor(c, x, y), peak = brightest_.view()(c, y / block_, x / block_) - dark;
      if (beside_star(c, x / block_, y / block_) &&
          over_sky(frame_, c, x, y) > dark + light_sigma &&
          (over_sky(after, c, x, y) < dark + std::min(pixel_sigma, pixel_share * peak) ||
           mean_over_sky(after, c, x, y) < dark + std::min(mean_sigma, mean_share * peak)))
        return true;
    }
    return false;
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
  static Image extreme(ConstView blocks, Choose choose) {
    constexpr int away = 5;
    Image rows = copy(blocks), result = copy(blocks);
    for (int c = 0; c < blocks.channels(); ++c) {
      for (int y = 0; y < blocks.height(); ++y) {
        for (int x = 0; x < blocks.width(); ++x) {
          for (int i = std::max(0, x - away); i <= std::min(blocks.width() - 1, x + away); ++i)
            rows.view()(c, y, x) = choose(rows.view()(c, y, x), blocks(c, y, i));
        }
      }
      for (int y = 0; y < blocks.height(); ++y) {
        for (int x = 0; x < blocks.width(); ++x) {
          result.view()(c, y, x) = rows.view()(c, y, x);
          for (int j = std::max(0, y - away); j <= std::min(blocks.height() - 1, y + away); ++j)
            result.view()(c, y, x) = choose(result.view()(c, y, x), rows.view()(c, j, x));
        }
      }
    }
    return result;
  }

  ConstView frame_;
  const std::vector<SkyLevel>& sky_;
  int block_;
  Image floor_, brightest_;
};

/// put_back_holes() where the levels are known.
int put_back(const Levels& levels, ConstView before, MutableView after, double fwhm_px) {
  const std::vector<Place> seeds = levels.holes(after);
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

}  // namespace

int put_back_holes(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                   double fwhm_px, int threads) {
  return put_back(Levels(before, sky, fwhm_px, threads), before, after, fwhm_px);
}

void fill_rings(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                double fwhm_px, int threads) {
  Levels(before, sky, fwhm_px, threads).fill(after, threads);
}

int mend_darkness(ConstView before, MutableView after, const std::vector<SkyLevel>& sky,
                  double fwhm_px, int threads) {
  const Levels levels(before, sky, fwhm_px, threads);
  const int places = put_back(levels, before, after, fwhm_px);
  levels.fill(after, threads);
  return places;
}

}  // namespace limpid
