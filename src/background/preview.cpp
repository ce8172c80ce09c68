// What the fit saw and found, as one picture.
#include <algorithm>
#include <cmath>
#include <limits>

#include <limpid/background.h>

#include "background/sky_stretch.h"

namespace limpid {
namespace {

constexpr int panel_width_px = 480, gap_px = 8, contour_count = 12;

struct Colour {
  float red, green, blue;
};

/// One of the six pictures, a window onto the whole.
class Panel {
 public:
  Panel(MutableView canvas, int column, int row, Size size)
      : view_(canvas.crop({gap_px + column * (size.width + gap_px),
                           gap_px + row * (size.height + gap_px), size.width, size.height})) {}
  [[nodiscard]] int width() const { return view_.width(); }
  [[nodiscard]] int height() const { return view_.height(); }
  void set(int x, int y, Colour colour) {
    if (x < 0 || y < 0 || x >= width() || y >= height()) return;
    view_(0, y, x) = colour.red;
    view_(1, y, x) = colour.green;
    view_(2, y, x) = colour.blue;
  }
  /// A ring of `radius` px around a place.
  void ring(float x, float y, float radius, Colour colour) {
    for (int v = static_cast<int>(y - radius) - 1; v <= static_cast<int>(y + radius) + 1; ++v) {
      for (int u = static_cast<int>(x - radius) - 1; u <= static_cast<int>(x + radius) + 1; ++u) {
        const float away = std::hypot(static_cast<float>(u) - x, static_cast<float>(v) - y);
        if (std::abs(away - radius) < 0.8F) set(u, v, colour);
      }
    }
  }

 private:
  MutableView view_;
};

/// A pixel of a picture with one or three channels; black where there is no data.
Colour colour_at(const Image& picture, int x, int y) {
  const auto value = [&](int channel) {
    const float v = picture.view()(std::min(channel, picture.channels() - 1), y, x);
    return std::isnan(v) ? 0.0F : std::clamp(v, 0.0F, 1.0F);
  };
  return {value(0), value(1), value(2)};
}

/// Calls body(x, y, column, row) with the pixel of the picture that each pixel of the panel shows.
template <typename Body>
void for_each_pixel(const Panel& panel, Size picture, const Body& body) {
  for (int y = 0; y < panel.height(); ++y) {
    for (int x = 0; x < panel.width(); ++x) {
      body(x, y, std::min(picture.width - 1, x * picture.width / panel.width()),
           std::min(picture.height - 1, y * picture.height / panel.height()));
    }
  }
}

void draw_curve(Panel& panel, const std::vector<float>& curve) {
  constexpr Colour axis{0.35F, 0.35F, 0.35F}, line{1.0F, 0.75F, 0.2F};
  for (int x = 0; x < panel.width(); ++x) panel.set(x, panel.height() - 1, axis);
  for (int y = 0; y < panel.height(); ++y) panel.set(0, y, axis);
  if (curve.size() < 2) return;
  const auto [low, high] = std::ranges::minmax(curve);
  const float range = std::max(high - low, 1e-6F);
  int before = -1;
  for (int x = 0; x < panel.width(); ++x) {
    const auto at = static_cast<std::size_t>(x) * (curve.size() - 1) /
                    static_cast<std::size_t>(panel.width() - 1);
    const int y =
        4 + static_cast<int>((high - curve[at]) / range * static_cast<float>(panel.height() - 9));
    for (int v = std::min(y, before < 0 ? y : before); v <= std::max(y, before); ++v)
      panel.set(x, v, line);
    panel.set(x, y, line);
    before = y;
  }
}

}  // namespace

Image Background::preview() const {
  const Size small = small_.size();
  const Size panel{panel_width_px, std::max(1, panel_width_px * small.height / small.width)};
  Image canvas(3, {3 * panel.width + 4 * gap_px, 2 * panel.height + 3 * gap_px}, 0.15F);
  const auto place = [&](int column, int row) { return Panel(canvas.view(), column, row, panel); };

  // The model and what is left without it, stretched like the frame.
  Image model(channels(), small), cleaned(channels(), small);
  std::vector<float> line(static_cast<std::size_t>(size_.width));
  for (int c = 0; c < channels(); ++c) {
    const SkyStretch& stretch = stretch_[static_cast<std::size_t>(c)];
    for (int v = 0; v < small.height; ++v) {
      fill_row(c, std::min(size_.height - 1, v * report_.downscale + report_.downscale / 2), line);
      for (int u = 0; u < small.width; ++u) {
        const auto x = static_cast<std::size_t>(u * report_.downscale + report_.downscale / 2);
        const float sky = line[std::min(x, line.size() - 1)];
        const float pixel = background::unstretched(stretch, small_.view()(c, v, u));
        model.view()(c, v, u) = background::stretched(stretch, sky);
        cleaned.view()(c, v, u) = background::stretched(
            stretch, pixel - sky + report_.level[static_cast<std::size_t>(c)]);
      }
    }
  }

  constexpr Colour masked{0.75F, 0.1F, 0.1F}, ring{0.2F, 1.0F, 0.4F}, contour{1.0F, 0.9F, 0.3F};
  Panel frame = place(0, 0), mask = place(1, 0), points = place(2, 0);
  for_each_pixel(frame, small, [&](int x, int y, int u, int v) {
    const Colour colour = colour_at(small_, u, v);
    frame.set(x, y, colour);
    points.set(x, y, {0.6F * colour.red, 0.6F * colour.green, 0.6F * colour.blue});
    mask.set(x, y, small_mask_.view()(0, v, u) > 0 ? colour : masked);
  });
  for (const ControlPoint& point : points_) {
    points.ring(point.x * static_cast<float>(panel.width) / static_cast<float>(size_.width),
                point.y * static_cast<float>(panel.height) / static_cast<float>(size_.height), 5,
                ring);
  }

  Panel surface = place(0, 1), result = place(1, 1), curve = place(2, 1);
  const auto brightness = [&](int u, int v) {
    float sum = 0;
    for (int c = 0; c < channels(); ++c) sum += model.view()(c, v, u);
    return sum / static_cast<float>(channels());
  };
  float low = std::numeric_limits<float>::infinity(), high = -low;
  for (int v = 0; v < small.height; ++v) {
    for (int u = 0; u < small.width; ++u) {
      low = std::min(low, brightness(u, v));
      high = std::max(high, brightness(u, v));
    }
  }
  const auto band = [&](int u, int v) {
    return static_cast<int>((brightness(u, v) - low) / std::max(high - low, 1e-6F) * contour_count);
  };
  for_each_pixel(surface, small, [&](int x, int y, int u, int v) {
    const bool edge =
        (u > 0 && band(u, v) != band(u - 1, v)) || (v > 0 && band(u, v) != band(u, v - 1));
    surface.set(x, y, edge ? contour : colour_at(model, u, v));
    result.set(x, y, colour_at(cleaned, u, v));
  });
  draw_curve(curve, report_.curve);
  return canvas;
}

}  // namespace limpid
