#include "train/star_removal.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

namespace limpid {

int remove_stars(torch::Tensor& picture) {
  namespace F = torch::nn::functional;
  const auto height = picture.size(1), width = picture.size(2);
  const auto light = std::get<0>(picture.max(0)).contiguous();
  // Top hat: what stands above an opening by a 9 px square is small in at least one direction.
  const auto pool = [](const torch::Tensor& x, int side) {
    return F::max_pool2d(x.unsqueeze(0).unsqueeze(0),
                         F::MaxPool2dFuncOptions(side).stride(1).padding(side / 2))[0][0];
  };
  const auto opened = pool(-pool(-light, 9), 9);
  const auto hat = (light - opened).contiguous();
  const auto peak = (light == pool(light, 5)).logical_and(hat > 0.05).contiguous();
  const float* l = light.data_ptr<float>();
  const float* t = hat.data_ptr<float>();
  const bool* p = peak.data_ptr<bool>();
  auto mask = torch::zeros({height, width});
  float* m = mask.data_ptr<float>();
  const auto at = [&](std::int64_t y, std::int64_t x) {
    return l[std::clamp<std::int64_t>(y, 0, height - 1) * width +
             std::clamp<std::int64_t>(x, 0, width - 1)];
  };
  int removed = 0;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      if (!p[y * width + x]) continue;
      const float top = l[y * width + x], height_over = t[y * width + x], base = top - height_over;
      // A star has fallen in every direction; a filament has not along itself.
      float highest = 0, mean = 0;
      for (int k = 0; k < 16; ++k) {
        const double angle = std::numbers::pi * k / 8;
        const float value =
            at(y + std::lround(5 * std::sin(angle)), x + std::lround(5 * std::cos(angle)));
        highest = std::max(highest, value - base);
        mean += (value - base) / 16;
      }
      if (highest > 0.6F * height_over || mean > 0.35F * height_over) continue;
      int radius = 3;
      for (; radius < 14; ++radius) {
        float ring = 0;
        for (int k = 0; k < 16; ++k) {
          const double angle = std::numbers::pi * k / 8;
          ring += (at(y + std::lround(radius * std::sin(angle)),
                      x + std::lround(radius * std::cos(angle))) -
                   base) /
                  16;
        }
        if (ring < 0.06F * height_over) break;
      }
      ++removed;
      const int reach = radius + 1;
      for (std::int64_t yy = std::max<std::int64_t>(0, y - reach);
           yy <= std::min(height - 1, y + reach); ++yy) {
        for (std::int64_t xx = std::max<std::int64_t>(0, x - reach);
             xx <= std::min(width - 1, x + reach); ++xx) {
          if ((yy - y) * (yy - y) + (xx - x) * (xx - x) <= reach * reach) m[yy * width + xx] = 1;
        }
      }
    }
  }
  // Fill from coarse to fine with the mean of what is known (pull-push, Gortler et al. 1996).
  auto known = (1 - mask).unsqueeze(0);
  auto values = picture * known;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> pyramid{{values, known}};
  while (pyramid.back().first.size(1) > 2 && pyramid.back().first.size(2) > 2 &&
         pyramid.size() < 7) {
    const auto& [v, w] = pyramid.back();
    const auto options = F::AvgPool2dFuncOptions(2).ceil_mode(true);
    pyramid.emplace_back(F::avg_pool2d(v.unsqueeze(0), options)[0],
                         F::avg_pool2d(w.unsqueeze(0), options)[0]);
  }
  auto fill = pyramid.back().first / pyramid.back().second.clamp_min(1e-6);
  for (std::size_t level = pyramid.size() - 1; level-- > 0;) {
    const auto& [v, w] = pyramid[level];
    fill =
        F::interpolate(fill.unsqueeze(0), F::InterpolateFuncOptions()
                                              .size(std::vector<std::int64_t>{v.size(1), v.size(2)})
                                              .mode(torch::kBilinear)
                                              .align_corners(false))[0];
    fill = v + fill * (1 - w.clamp(0, 1));
  }
  picture = fill;
  return removed;
}

}  // namespace limpid
