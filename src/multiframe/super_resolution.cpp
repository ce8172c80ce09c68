#include "multiframe/super_resolution.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace limpid::multiframe {
namespace {

/// Weights of the four pixels around a place `t` (0..1) behind the second of them, a = -1/2.
std::array<float, 4> cubic_weights(float t) {
  const float t2 = t * t, t3 = t2 * t;
  return {-0.5F * t3 + t2 - 0.5F * t, 1.5F * t3 - 2.5F * t2 + 1, -1.5F * t3 + 2 * t2 + 0.5F * t,
          0.5F * t3 - 0.5F * t2};
}

/// Where the value at `position` comes from along an axis: first pixel and weights.
struct Taps {
  int first = 0;
  std::array<float, 4> weights{};
};
Taps taps_at(float position) {
  const float whole = std::floor(position);
  return {static_cast<int>(whole) - 1, cubic_weights(position - whole)};
}

/// Rows, then columns, each convolved with taps that begin at offset `first`.
Image separable(ConstView image, const std::vector<float>& taps, int first, bool transposed) {
  Image rows(1, image.size()), out(1, image.size());
  const int count = static_cast<int>(taps.size());
  const auto tap = [&](int k) { return taps[static_cast<std::size_t>(k)]; };
  for (int y = 0; y < image.height(); ++y) {
    const auto from = image.row(0, y);
    const auto to = rows.view().row(0, y);
    for (int k = 0; k < count; ++k) {
      const int offset = transposed ? -(first + k) : first + k;
      const int begin = std::max(0, -offset), end = std::min(image.width(), image.width() - offset);
      for (int x = begin; x < end; ++x)
        to[static_cast<std::size_t>(x)] += tap(k) * from[static_cast<std::size_t>(x + offset)];
    }
  }
  for (int y = 0; y < image.height(); ++y) {
    const auto to = out.view().row(0, y);
    for (int k = 0; k < count; ++k) {
      const int v = y + (transposed ? -(first + k) : first + k);
      if (v < 0 || v >= image.height()) continue;
      const auto from = rows.view().row(0, v);
      for (std::size_t x = 0; x < to.size(); ++x) to[x] += tap(k) * from[x];
    }
  }
  return out;
}

std::vector<float> gaussian(float sigma) {
  const int reach = static_cast<int>(std::ceil(4 * sigma));
  std::vector<float> taps;
  float sum = 0;
  for (int i = -reach; i <= reach; ++i) {
    taps.push_back(std::exp(-0.5F * static_cast<float>(i * i) / (sigma * sigma)));
    sum += taps.back();
  }
  for (float& tap : taps) tap /= sum;
  return taps;
}

/// What pixels record of a star on a fine pixel: all places of the star in the pixel, interleaved.
/// Value q is that of the pixel whose first fine pixel lies q behind the star's.
Image interleaved(const std::function<Image(float, float)>& native, int factor, int side) {
  Image response(1, {side, side});
  const int centre = side / 2;
  for (int phase_v = 0; phase_v < factor; ++phase_v) {
    for (int phase_u = 0; phase_u < factor; ++phase_u) {
      // q = factor n + phase; the pixel's centre lies (q + (factor - 1) / 2) / factor from the star
      const auto shift = [factor](int phase) {
        return -(static_cast<float>(phase) + 0.5F * static_cast<float>(factor - 1)) /
               static_cast<float>(factor);
      };
      const Image kernel = native(shift(phase_u), shift(phase_v));
      const int half = kernel.width() / 2;
      for (int n = -half; n <= half; ++n) {
        const int v = centre + factor * n + phase_v;
        if (v < 0 || v >= side) continue;
        for (int m = -half; m <= half; ++m) {
          const int u = centre + factor * m + phase_u;
          if (u >= 0 && u < side)
            response.view()(0, v, u) = std::max(kernel.view()(0, n + half, m + half), 0.0F);
        }
      }
    }
  }
  return response;
}

}  // namespace

Image lift_kernel(const std::function<Image(float, float)>& native, const LiftOptions& options) {
  const int native_side = native(0, 0).width();
  const int side = options.factor * (native_side - 1) + 1;
  const Image response = interleaved(native, options.factor, side);
  const std::vector<float> blur = gaussian(options.sigma_px);
  const int reach = static_cast<int>(blur.size()) / 2;
  const std::vector<float> box(static_cast<std::size_t>(options.factor), 1.0F);
  const auto forward = [&](ConstView f) {
    return separable(separable(f, blur, -reach, false).view(), box, 0, false);
  };
  const auto backward = [&](ConstView f) {
    return separable(separable(f, box, 0, true).view(), blur, -reach, true);
  };
  Image kernel(1, {side, side}, 1.0F / static_cast<float>(side * side));
  const Image ones(1, {side, side}, 1.0F);
  const Image total = backward(ones.view());
  for (int i = 0; i < options.iterations; ++i) {
    Image ratio = forward(kernel.view());
    for (std::size_t k = 0; k < ratio.pixels().size(); ++k)
      ratio.pixels()[k] = response.pixels()[k] / std::max(ratio.pixels()[k], 1e-12F);
    const Image update = backward(ratio.view());
    for (std::size_t k = 0; k < ratio.pixels().size(); ++k)
      kernel.pixels()[k] *= update.pixels()[k] / total.pixels()[k];
  }
  double sum = 0;
  for (const float value : kernel.pixels()) sum += value;
  for (float& value : kernel.pixels()) value = static_cast<float>(value / sum);
  return kernel;
}

Image moved(ConstView kernel, float shift_u, float shift_v) {
  Image out(1, kernel.size());
  for (int v = 0; v < kernel.height(); ++v) {
    const Taps vertical = taps_at(static_cast<float>(v) - shift_v);
    for (int u = 0; u < kernel.width(); ++u) {
      const Taps horizontal = taps_at(static_cast<float>(u) - shift_u);
      float sum = 0;
      for (int j = 0; j < 4; ++j) {
        for (int i = 0; i < 4; ++i) {
          const int y = vertical.first + j, x = horizontal.first + i;
          if (y < 0 || x < 0 || y >= kernel.height() || x >= kernel.width()) continue;
          sum += vertical.weights[static_cast<std::size_t>(j)] *
                 horizontal.weights[static_cast<std::size_t>(i)] * kernel(0, y, x);
        }
      }
      out.view()(0, v, u) = sum;
    }
  }
  return out;
}

Image refine(ConstView frame, int factor) {
  if (factor == 1) return copy(frame);
  Image out(frame.channels(), {frame.width() * factor, frame.height() * factor});
  const auto scale = static_cast<float>(factor);
  for (int y = 0; y < out.height(); ++y) {
    const Taps vertical = taps_at((static_cast<float>(y) + 0.5F) / scale - 0.5F);
    for (int x = 0; x < out.width(); ++x) {
      const Taps horizontal = taps_at((static_cast<float>(x) + 0.5F) / scale - 0.5F);
      for (int c = 0; c < out.channels(); ++c) {
        float sum = 0;
        for (int j = 0; j < 4; ++j) {
          const int v = std::clamp(vertical.first + j, 0, frame.height() - 1);
          for (int i = 0; i < 4; ++i) {
            const int u = std::clamp(horizontal.first + i, 0, frame.width() - 1);
            sum += vertical.weights[static_cast<std::size_t>(j)] *
                   horizontal.weights[static_cast<std::size_t>(i)] * frame(c, v, u);
          }
        }
        out.view()(c, y, x) = sum / (scale * scale);
      }
    }
  }
  return out;
}

}  // namespace limpid::multiframe
