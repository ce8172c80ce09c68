// What the pixels about a star say: of what was made of it, and of the star itself.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

#include "restore/restored_part.h"
#include "restore/star_optics.h"

namespace limpid {

/// A star's surroundings: what was recorded and what was made of it.
class Stamp {
 public:
  /// A square of `side` px. Pixels weigh less from half of `window_px` on, nothing beyond it.
  Stamp(const RestoredPart& known, ConstView after, const Star& star, int side, float window_px);

  [[nodiscard]] int side() const { return side_; }
  [[nodiscard]] float weight(int x, int y) const { return window_[index(x, y)]; }
  [[nodiscard]] float recorded(int channel, int x, int y) const {
    return recorded_.view()(channel, y, x);
  }
  [[nodiscard]] float made(int channel, int x, int y) const { return made_.view()(channel, y, x); }
  /// Recorded minus made and blurred again.
  [[nodiscard]] Image difference(const Optics& optics, int channel) const;

  struct Surroundings {
    float level = 0, darkest = 0, scatter = 0;
    float noise = 0;  ///< of the difference
  };
  /// What lies further than `reach_px` away; nothing where that is too little.
  [[nodiscard]] std::optional<Surroundings> surroundings(ConstView difference, int channel,
                                                         float reach_px) const;

 private:
  [[nodiscard]] std::size_t index(int x, int y) const {
    return static_cast<std::size_t>(y * side_ + x);
  }
  int side_;
  Image made_, recorded_;
  std::vector<float> away_, window_;
};

using Terms = std::array<double, term_count>;

/// The terms of a star's measured PSF that explain its pixels.
struct Explanation {
  Terms difference{};  ///< of what was recorded from what was made
  double level = 0;    ///< beside them
  Terms own{};         ///< of what was recorded from a star of this light with the measured PSF
  Terms own_error{};   ///< one sigma, the sky's own structure included
  double light = 0, peak = 0;
};

/// (dx, dy): from the centre of the optics' PSFs to the star's, px; `half`: how many pixels around
/// its middle one are looked at. Nothing where there is no light.
std::optional<Explanation> explain(const Stamp& stamp, ConstView difference, const Optics& optics,
                                   int channel, const Stamp::Surroundings& around, double dx,
                                   double dy, int half);

/// Without an error of the light itself: that of a star at (dx, dy), to second order.
Terms without_light(Terms terms, double dx, double dy);

}  // namespace limpid
