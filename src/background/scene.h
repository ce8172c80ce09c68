// What the fit of the sky works on: the small frame, its stretch, its mask, a first sky.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <limpid/background.h>
#include <limpid/image.h>

#include "background/downscale.h"
#include "background/sky_start.h"
#include "background/sky_stretch.h"

namespace limpid::background {

/// Place in the small frame's shares of width and height, and back. Blocks have their centre
/// (factor - 1) / 2 pixels into them.
struct Places {
  double offset, width, height;
  Places(int factor, Size small)
      : offset(0.5 * (factor - 1)),
        width(static_cast<double>(factor) * small.width),
        height(static_cast<double>(factor) * small.height) {}
  [[nodiscard]] double u(double x) const { return (x - offset) / width; }
  [[nodiscard]] double v(double y) const { return (y - offset) / height; }
  [[nodiscard]] float x(double u) const { return static_cast<float>(u * width + offset); }
  [[nodiscard]] float y(double v) const { return static_cast<float>(v * height + offset); }
};

/// What the fit works on.
struct Scene {
  int factor = 0;
  Image linear;     ///< downscaled
  Image stretched;  ///< downscaled, what the loss sees
  Image mask;       ///< (1, height, width)
  Image start;      ///< the sky by its robust low-order fit, linear
  SkyStart sky;     ///< the same, at any place
  std::vector<SkyStretch> stretch;
  std::vector<float> noise;  ///< of one pixel of the frame
  double missing_share = 0, masked_share = 0;
  bool bare = false;    ///< nothing but sky and small objects
  bool hidden = false;  ///< nebulae, or a galaxy, nearly everywhere
  [[nodiscard]] Scene clone() const;
};

/// Finds sky and objects in one frame, which may be asked for again and again: what only the frame
/// and a few options decide is kept from one call to the next. The pixels must outlive it.
class SceneMaker {
 public:
  explicit SceneMaker(ConstView frame) : frame_(frame) {}
  /// Appends to `notes` what the user should know. Throws Error(bad_input) for constant channels,
  /// Error(failed) when masks leave too little.
  Scene prepare(const BackgroundOptions& options, std::vector<std::string>& notes);

 private:
  void look_at_channels(double quantile, int threads);
  void scale_down(int factor, int threads);
  [[nodiscard]] Scene with_sky(const BackgroundOptions& options);

  ConstView frame_;
  std::vector<float> noise_;
  double quantile_ = 0;
  std::vector<ChannelStatistics> statistics_;
  Image linear_;
  int factor_ = 0;
  /// The sky that was found last, and what it rests on beside the small frame.
  struct Found {
    Image mask;
    bool auto_mask, masked_by_user;
    std::vector<float> noise;
    Scene scene;
  };
  std::optional<Found> found_;
};

}  // namespace limpid::background
