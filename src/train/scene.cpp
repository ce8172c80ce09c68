#include "train/scene.h"

#include <algorithm>
#include <cmath>

namespace limpid {

PsfReach::PsfReach(const torch::Tensor& oversampled) {
  const auto psf = oversampled.dim() == 3 ? std::get<0>(oversampled.max(0)) : oversampled;
  const auto plain = psf.contiguous();
  const float* data = plain.data_ptr<float>();
  for (int y = 0; y < psf_grid; ++y) {
    for (int x = 0; x < psf_grid; ++x) {
      const double r = std::hypot(x - psf_grid / 2, y - psf_grid / 2) / psf_oversampling;
      const auto bin = static_cast<std::size_t>(std::min(r, psf_side_px / 2.0));
      outside_[bin] = std::max(outside_[bin], data[y * psf_grid + x]);
    }
  }
  for (std::size_t i = outside_.size() - 1; i-- > 0;)
    outside_[i] = std::max(outside_[i], outside_[i + 1]);
}

int PsfReach::radius_px(float flux, float level) const {
  int radius = 2;
  while (radius < psf_side_px / 2 - 1 && flux * outside_[static_cast<std::size_t>(radius)] > level)
    ++radius;
  return radius;
}

void add_stars(torch::Tensor& field, const std::vector<SceneStar>& stars, const torch::Tensor& here,
               const torch::Tensor& there, const std::function<float(int, int)>& weight_there,
               float reach_level) {
  const auto channels = static_cast<int>(field.size(0));
  const auto height = static_cast<int>(field.size(1)), width = static_cast<int>(field.size(2));
  const PsfReach reach(here);
  const auto first = here.contiguous();
  const auto second = there.defined() ? there.contiguous() : first;
  const bool varies = there.defined() && weight_there != nullptr;
  const std::int64_t psf_channels = first.size(0);
  float* out = field.data_ptr<float>();
  for (const SceneStar& star : stars) {
    const int x0 = (star.qx >= 0 ? star.qx : star.qx - 3) / 4,
              y0 = (star.qy >= 0 ? star.qy : star.qy - 3) / 4;
    const int px = star.qx - 4 * x0, py = star.qy - 4 * y0;
    const float share = varies ? weight_there(x0, y0) : 0.0F;
    const float brightest = *std::max_element(star.flux.begin(), star.flux.end());
    const int radius = reach.radius_px(brightest, reach_level);
    for (int c = 0; c < channels; ++c) {
      const float flux = star.flux[static_cast<std::size_t>(c)];
      const std::int64_t plane = (psf_channels == 1 ? 0 : c) * psf_grid * psf_grid;
      const float* a = first.data_ptr<float>() + plane;
      const float* b = second.data_ptr<float>() + plane;
      for (int dy = -radius; dy <= radius; ++dy) {
        const int sy = psf_grid / 2 + psf_oversampling * dy - py;
        if (sy < 0 || sy >= psf_grid) continue;
        const int y = ((y0 + dy) % height + height) % height;
        float* row = out + (static_cast<std::int64_t>(c) * height + y) * width;
        const int half =
            static_cast<int>(std::sqrt(static_cast<double>(radius * radius - dy * dy)));
        for (int dx = -half; dx <= half; ++dx) {
          const int sx = psf_grid / 2 + psf_oversampling * dx - px;
          if (sx < 0 || sx >= psf_grid) continue;
          const int at = sy * psf_grid + sx;
          const float light = varies ? a[at] + share * (b[at] - a[at]) : a[at];
          const int x = x0 + dx;
          row[x < 0 ? x + width : x >= width ? x - width : x] += flux * light;
        }
      }
    }
  }
}

}  // namespace limpid
