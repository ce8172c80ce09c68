// What a night sky looks like before any spline: a polynomial of low order and the glow of lights
// beyond the frame's edge, fitted so that what stands above it counts for little.
#pragma once

#include <vector>

#include <limpid/image.h>

#include <Eigen/Dense>

#include "background/spline.h"

namespace limpid::background {

/// Light scattered from a place at the frame's edge or beyond: (1 + (d / reach)^2)^(-falloff / 2),
/// d in units of half the frame's longer side. Far from a town that is Walker's law, d^-2.5 (1977,
/// PASP 89, 405); a large reach with a steep falloff is close to Garstang's (1989, PASP 101, 306)
/// nearly exponential domes.
struct Glow {
  double x = 0, y = 0, reach = 1, falloff = 2.5;
};

/// Whether what the terms miss is taken for sky (`bare`) or rather for objects (`veiled`): a soft
/// spline follows it, or a stiff one that leaves alone what stands out. A `hidden` sky, which is
/// seen nowhere for sure, is a plane under the darkest parts: light only adds.
enum class SkyKind { bare, veiled, hidden };

/// c . (1, x, y, x^2, xy, y^2, glows) per channel; x, y in [-1, 1] over the longer side.
class SkyStart {
 public:
  /// The whole sky on a frame of this size, shape (channels, height, width).
  [[nodiscard]] Image render(Size size, int threads) const;
  [[nodiscard]] int polynomial_order() const { return order_; }
  [[nodiscard]] const std::vector<Glow>& glows() const { return glows_; }

 private:
  friend SkyStart fit_sky_start(ConstView, ConstView, ConstView, const std::vector<float>&, SkyKind,
                                int);
  double aspect_x_ = 1, aspect_y_ = 1;
  int order_ = 0;
  std::vector<Glow> glows_;
  Eigen::MatrixXd coefficients_;  // (terms, channels)
  SplinePoints rest_;             // what the terms miss and a stiff spline explains
};

/// `frame`: downscaled, linear, NaN without data; `mask` (1, height, width): above 0 takes part;
/// `noise`: of one pixel of the original frame per channel, the unit in which misfits are judged.
/// `guess`: the sky so far, of the frame's shape, or nothing.
SkyStart fit_sky_start(ConstView frame, ConstView mask, ConstView guess,
                       const std::vector<float>& noise, SkyKind kind, int threads);

}  // namespace limpid::background
