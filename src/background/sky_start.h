// What a night sky looks like before any spline: a polynomial of low order and the glow of lights
// beyond the frame's edge, fitted so that what stands above it counts for little.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include <limpid/image.h>

#include <Eigen/Dense>

#include "background/sky_terms.h"
#include "background/spline.h"

namespace limpid::background {

/// Whether what the terms miss is taken for sky (`bare`) or rather for objects (`veiled`): a soft
/// spline follows it, or a stiff one that leaves alone what stands out. A `hidden` sky, which is
/// seen nowhere for sure, is a plane under the darkest parts: light only adds.
enum class SkyKind { bare, veiled, hidden };

/// c . (1, x, y, x^2, xy, y^2, glows) per channel; x, y in [-1, 1] over the longer side.
class SkyStart {
 public:
  /// At shares of the frame, 0..1 from edge to edge; the values of all channels.
  void at(double u, double v, std::span<float> values) const;
  /// The whole sky on a frame of this size, shape (channels, height, width).
  [[nodiscard]] Image render(Size size, int threads) const;
  [[nodiscard]] const Shape& shape() const { return shape_; }

 private:
  friend SkyStart fit_sky_start(ConstView, ConstView, ConstView, const std::vector<float>&, SkyKind,
                                const Shape&, int);
  double aspect_x_ = 1, aspect_y_ = 1;
  Shape shape_;
  Eigen::MatrixXd coefficients_;  // (terms, channels)
  std::optional<Spline> rest_;    // what the terms miss and a stiff spline explains
};

/// `frame`: downscaled, linear, NaN without data; `mask` (1, height, width): above 0 takes part;
/// `noise`: of one pixel of the original frame per channel, the unit in which misfits are judged.
/// `guess`: the sky so far, of the frame's shape, or nothing; `known`: its terms.
SkyStart fit_sky_start(ConstView frame, ConstView mask, ConstView guess,
                       const std::vector<float>& noise, SkyKind kind, const Shape& known,
                       int threads);

}  // namespace limpid::background
