// What the unclipped light about a clipped core says of its star.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <Eigen/Core>

#include <limpid/network.h>

#include "restore/restored_part.h"

namespace limpid {

inline constexpr int largest_clipped_core_px = 100;

/// The pixels about a clipped star: a square of the frame, cut at its edges.
struct ClippedPlace {
  Rect box;
  std::vector<std::uint8_t> core;  ///< connected clipped pixels of any channel, grown by one
  float core_px = 0;               ///< radius of a disc of that area, before growing
  Star star;                       ///< in the middle of the core: its peak may be anywhere in it

  [[nodiscard]] std::size_t index(int x, int y) const {
    return static_cast<std::size_t>(y - box.y) * static_cast<std::size_t>(box.width) +
           static_cast<std::size_t>(x - box.x);
  }
};

/// Clipped pixels that hang together with one within two px of the star; nothing where there are
/// none, too many for a star, or they make no disc.
std::optional<ClippedPlace> find_clipped_core(const RestoredPart& known, const Star& star);

/// A profile of unit light about a star, pixel by pixel of its place.
using Profile = Eigen::ArrayXd;

/// Draws both PSFs about a star. Its colours shall not depend on what fits make of the wings in
/// each channel: the measured PSF is the mean of all channels', about the star's place in each.
class ClippedDrawing {
 public:
  /// Keeps references to both.
  ClippedDrawing(const ClippedPlace& place, const TileControls& controls);
  /// What is known beyond the Moffat counts as far as it can be believed beside the Moffat's own
  /// light. Far wings are halo here.
  [[nodiscard]] Profile measured(double x, double y) const;
  [[nodiscard]] Profile wanted(double x, double y) const;
  /// How much higher a star's peak becomes.
  [[nodiscard]] double gain() const;

 private:
  [[nodiscard]] Profile drawn(const Psf& psf, double x, double y) const;
  void add_residual(const std::vector<float>& rows, double x, double y, Profile& psf) const;
  const ClippedPlace& place_;
  const TileControls& controls_;
  Psf wanted_;
};

/// The sky under a star: a plane, and what scatters about it.
struct SkyPlane {
  Eigen::Vector3d plane = Eigen::Vector3d::Zero();
  double scatter = 0;
  [[nodiscard]] double at(const Star& star, int x, int y) const {
    return plane.dot(Eigen::Vector3d(1, static_cast<double>(static_cast<float>(x) - star.x),
                                     static_cast<double>(static_cast<float>(y) - star.y)));
  }
};

/// A clipped star in one channel.
struct ClippedFit {
  double x = 0, y = 0, flux = 0;
  double scatter = 0;  ///< of ln(recorded / expected) beside the core
  SkyPlane sky;
  Profile measured;  ///< PSF about (x, y)
};

/// Light and place from the pixels within a FWHM of the core, by ln(recorded - B) = ln F + ln G -
/// grad ln G . shift, again and again; B a robust plane through a ring further out. Nothing where
/// too few pixels tell.
std::optional<ClippedFit> fit_clipped_star(const RestoredPart& known, const ClippedPlace& place,
                                           const ClippedDrawing& drawing, int channel);

/// By radius in px: the star's light over the expected one, medians of rings; 1 where it cannot be
/// told.
std::vector<double> excess_by_radius(const RestoredPart& known, const ClippedPlace& place,
                                     const ClippedFit& fit, int channel);

}  // namespace limpid
