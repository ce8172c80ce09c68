#include "train/scene.h"

#include <algorithm>
#include <cmath>

namespace limpid {
namespace {

struct Brightness {
  double peak_min = 1, peak_max = 3e4, slope = 0.8;
};

}  // namespace

std::vector<SceneStar> draw_stars(Random& random, const SceneOptions& options,
                                  const StarField& sky) {
  const int field = sky.field;
  Brightness brightness;
  // counts over brightness, from the Galaxy's 0.5 to 1.2; flat ones show many bright stars at once
  brightness.slope = random.chance(0.3) ? random.uniform(0.25, 0.5) : random.uniform(0.5, 1.2);
  brightness.peak_min = options.star_peak_min.value_or(random.log_uniform(0.5, 5));
  brightness.peak_max = options.star_peak_max.value_or(random.log_uniform(300, 1e5));
  const auto make = [&](double x, double y) {
    SceneStar star;
    star.qx = static_cast<int>(std::lround(4 * x));
    star.qy = static_cast<int>(std::lround(4 * y));
    const double peak =
        options.isolated_stars
            ? random.log_uniform(brightness.peak_min, brightness.peak_max)
            : std::min(brightness.peak_max,
                       brightness.peak_min * std::pow(1 - random.uniform(), -1 / brightness.slope));
    const double colour = 0.35 * random.normal();
    for (int c = 0; c < 3; ++c) {
      star.flux[static_cast<std::size_t>(c)] =
          static_cast<float>(peak / sky.psf_peak * std::exp(colour * (1 - c)) *
                             sky.channel_scale[static_cast<std::size_t>(c)]);
    }
    return star;
  };
  std::vector<SceneStar> stars;
  if (options.isolated_stars) {
    const double pitch = std::max(16.0, 8 * sky.fwhm_px);
    for (double y = scene_margin_px + pitch / 2; y < field - scene_margin_px - pitch / 3;
         y += pitch) {
      for (double x = scene_margin_px + pitch / 2; x < field - scene_margin_px - pitch / 3;
           x += pitch) {
        stars.push_back(make(x + random.uniform(-2, 2), y + random.uniform(-2, 2)));
      }
    }
    return stars;
  }
  const double area = field * field / 65536.0;
  int count = 0;
  double cluster = 0;
  if (options.stars) {
    count = *options.stars;
  } else {
    const double kind = random.uniform();
    if (kind < 0.08)
      count = 0;
    else if (kind < 0.7)
      count = static_cast<int>(area * random.log_uniform(5, 200));
    else if (kind < 0.9)
      count = static_cast<int>(area * random.log_uniform(200, 900));
    else
      count = static_cast<int>(area * random.log_uniform(600, 3000)),
      cluster = random.chance(0.6) ? field * random.uniform(0.08, 0.25) : 0;
  }
  if (sky.dense) cluster = 0.25 * field;
  const double cx = random.uniform(0.3, 0.7) * field, cy = random.uniform(0.3, 0.7) * field;
  for (int i = 0; i < count; ++i) {
    double x = random.uniform(0, field), y = random.uniform(0, field);
    if (cluster > 0 && random.chance(sky.dense ? 0.35 : 0.7)) {
      x = cx + cluster * random.normal();
      y = cy + cluster * random.normal();
      if (x < 0 || y < 0 || x >= field - 1 || y >= field - 1) continue;
    }
    stars.push_back(make(x, y));
  }
  return stars;
}

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
