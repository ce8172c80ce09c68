#include "restore/point_source.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

constexpr double sigma_px = 1.5, light = 1000, no_noise = 1e-6;

/// A star wider than the measured PSF by this share, and drawn out along x by that.
Explanation star_of(double wider, double longer) {
  const double unit = sigma_px * sigma_px * light;
  Explanation star;
  star.light = light;
  star.own[3] = (wider + longer / 2) * unit;
  star.own[5] = (wider - longer / 2) * unit;
  star.own_error.fill(no_noise);
  return star;
}

TEST(PointSource, DiffersNoMoreFromThePsfThanTheFramesStarsDo) {
  const PsfErrors errors{.width = 0.03, .ellipticity = 0.015};
  // one sigma in width, and in length: all of it is the PSF's error
  const Explanation star = star_of(0.03, 0.015);
  const PointSource point = as_point(star, errors, sigma_px, false);
  EXPECT_EQ(point.likely, 1);
  for (const std::size_t k : {3U, 4U, 5U})
    EXPECT_NEAR(point.error_of_psf[k], star.own[k], 1e-6 * light);
  // ten of either: a galaxy, whose shape is its own
  for (const Explanation& galaxy : {star_of(0.3, 0), star_of(0, 0.15)}) {
    const PointSource none = as_point(galaxy, errors, sigma_px, false);
    EXPECT_EQ(none.likely, 0);
    EXPECT_EQ(none.error_of_psf[3], 0);
  }
}

TEST(PointSource, NoiseSaysNothingAgainstIt) {
  const PsfErrors errors{.width = 0.03, .ellipticity = 0.015};
  Explanation faint = star_of(0.3, 0);
  faint.own_error.fill(0.3 * sigma_px * sigma_px * light);
  const PointSource point = as_point(faint, errors, sigma_px, false);
  EXPECT_EQ(point.likely, 1);
  // and tells little of the PSF
  EXPECT_LT(point.error_of_psf[3], 0.1 * faint.own[3]);
}

}  // namespace
}  // namespace limpid
