#include "restore/hidden_lights.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "core/box_mean.h"
#include "core/statistics.h"
#include "restore/geometry.h"
#include "restore/noise_model.h"

namespace limpid {
namespace {

constexpr float beside_clipped_fwhm = 1.5F;
/// A light is narrow where 3 x 3 px stand so far over the mean of a square of this reach.
constexpr float narrow_fwhm = 1.25F, narrow_sigma = 300, narrow_share = 0.6F;

/// Rows of box_mean(), made when they are asked for first.
class MeansOnDemand {
 public:
  MeansOnDemand(ConstView plane, int half)
      : plane_(plane),
        half_(half),
        row_(plane.width(), half),
        means_(Image::unset(1, plane.size())),
        made_(static_cast<std::size_t>(plane.height())) {}
  std::span<const float> row(int y) {
    const auto means = means_.view().row(0, y);
    if (made_[static_cast<std::size_t>(y)] == 0) {
      std::vector<const float*> rows;
      for (int i = std::max(0, y - half_); i < std::min(plane_.height(), y + half_ + 1); ++i)
        rows.push_back(plane_.row(0, i).data());
      row_.mean_of(rows, means);
      made_[static_cast<std::size_t>(y)] = 1;
    }
    return means;
  }

 private:
  ConstView plane_;
  int half_;
  BoxMeanRow row_;
  Image means_;
  std::vector<char> made_;
};

/// Draws discs, as large as a star of this peak has them.
void hide_narrow_lights(ConstView channel, SkyLevel sky, float faintest, float fwhm_px,
                        MutableView hidden) {
  MeansOnDemand peak(channel, 1),
      around(channel, static_cast<int>(std::ceil(narrow_fwhm * fwhm_px)));
  const auto over = [&](int x, int y) {
    const auto at = static_cast<std::size_t>(x);
    return peak.row(y)[at] - around.row(y)[at];
  };
  const auto is_highest = [&](int x, int y) {
    for (int j = -1; j <= 1; ++j) {
      for (int i = -1; i <= 1; ++i) {
        if (over(x + i, y + j) > over(x, y)) return false;
      }
    }
    return true;
  };
  const auto hide = [&](int x, int y) {
    const double light = static_cast<double>(channel(0, y, x) - sky.sky);
    const float radius =
        std::max(beside_clipped_fwhm * fwhm_px,
                 static_cast<float>(star_radius(light, static_cast<double>(fwhm_px), faintest)));
    const auto reach = static_cast<int>(std::ceil(radius));
    for_pixels(intersect({x - reach, y - reach, 2 * reach + 1, 2 * reach + 1},
                         {0, 0, channel.width(), channel.height()}),
               [&](int u, int v) {
                 const auto dx = static_cast<float>(u - x), dy = static_cast<float>(v - y);
                 if (dx * dx + dy * dy <= radius * radius) hidden(0, v, u) = 1;
               });
  };
  std::vector<Range> ranges;
  Range all;
  for (int y = 0; y < channel.height(); ++y) {
    ranges.push_back(range_of(channel.row(0, y)));
    all.add(ranges.back());
  }
  // few pixels are narrow: rows are looked through at once, and not where none can be
  std::vector<float> excess(static_cast<std::size_t>(channel.width()));
  for (int y = 1; y + 1 < channel.height(); ++y) {
    Range near;
    for (const int beside : {y - 1, y, y + 1}) near.add(ranges[static_cast<std::size_t>(beside)]);
    if (near.highest < all.lowest + narrow_sigma * sky.sigma) continue;
    const auto narrow = peak.row(y), wide = around.row(y);
    int any = 0;
    for (std::size_t x = 0; x < excess.size(); ++x) {
      excess[x] = narrow[x] - wide[x] -
                  std::max(narrow_sigma * sky.sigma, narrow_share * (wide[x] - sky.sky));
      any |= excess[x] > 0 ? 1 : 0;
    }
    if (any == 0) continue;
    for (int x = 1; x + 1 < channel.width(); ++x) {
      if (excess[static_cast<std::size_t>(x)] > 0 && is_highest(x, y)) hide(x, y);
    }
  }
}

}  // namespace

Image near_flags(const Image& flags, int reach) {
  Image near = box_mean(flags.view(), reach);
  for (float& share : near.pixels()) share = share > 0 ? 1.0F : 0.0F;
  return near;
}

void add_flags(Image& to, const Image& flags) {
  std::ranges::transform(to.pixels(), flags.pixels(), to.pixels().begin(),
                         [](float a, float b) { return std::max(a, b); });
}

Image near_clipped(ConstView part, const StarCatalogue& catalogue, float reach_px) {
  Image clipped(1, part.size());
  if (!catalogue.saturation) return clipped;
  const float level = clipped_share * *catalogue.saturation;
  bool any = false;
  for (int y = 0; y < part.height(); ++y) {
    const auto flags = clipped.view().row(0, y);
    flag_reaching(part, level, y, flags);
    any = any || std::ranges::find(flags, 1.0F) != flags.end();
  }
  return any ? near_flags(clipped, static_cast<int>(std::ceil(reach_px))) : std::move(clipped);
}

Image lights_to_hide(ConstView part, Rect place, const StarCatalogue& catalogue, float fwhm_px) {
  Image hidden = star_discs(catalogue, static_cast<double>(fwhm_px), place);
  add_flags(hidden, near_clipped(part, catalogue, beside_clipped_fwhm * fwhm_px));
  const float faintest = std::ranges::min(catalogue.sky, {}, &SkyLevel::sigma).sigma;
  for (int c = 0; c < part.channels(); ++c)
    hide_narrow_lights(part.channel(c), catalogue.sky[static_cast<std::size_t>(c)], faintest,
                       fwhm_px, hidden.view());
  return hidden;
}

}  // namespace limpid
