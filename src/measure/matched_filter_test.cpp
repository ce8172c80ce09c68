#include "measure/matched_filter.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "synthetic.h"

namespace limpid {
namespace {

/// What the filter makes of one pixel, written out: a Gaussian less the mean of a box, the frame
/// mirrored at its edges.
double filtered_at(ConstView frame, int x, int y, double fwhm_px) {
  const int box = static_cast<int>(std::lround(2 * fwhm_px));
  const double sigma = fwhm_px / 2.3548;
  const int reach = static_cast<int>(std::ceil(2.5 * sigma));
  const auto tap = [&](int i) {
    return std::abs(i) <= reach ? std::exp(-0.5 * i * i / (sigma * sigma)) : 0.0;
  };
  const auto mirrored = [](int i, int count) {
    while (i < 0 || i >= count) i = i < 0 ? -i : 2 * (count - 1) - i;
    return i;
  };
  double taps = 0, smooth = 0, sum = 0, pixels = 0;
  for (int j = -box; j <= box; ++j) {
    for (int i = -box; i <= box; ++i) {
      const double value =
          frame(0, mirrored(y + j, frame.height()), mirrored(x + i, frame.width()));
      taps += tap(i) * tap(j);
      smooth += tap(i) * tap(j) * value;
      sum += value;
      pixels += 1;
    }
  }
  return smooth / taps - sum / pixels;
}

TEST(MatchedFilter, IsTheSumWrittenOutUpToTheEdges) {
  constexpr float fwhm_px = 3;
  // more rows than are filtered at once, and sides shorter than the box
  for (const Size size : {Size{37, 150}, Size{8, 9}, Size{7, 5}, Size{5, 21}}) {
    Image frame(1, size);
    synthetic::add_noise(frame.view(), 1, 0, 0, 5);
    const Image filtered = MatchedFilter(fwhm_px).apply(frame.view(), 2);
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        // a dozen sums in single precision
        EXPECT_NEAR(filtered.view()(0, y, x), filtered_at(frame.view(), x, y, 3), 1e-5)
            << size.width << " px wide at " << x << ", " << y;
      }
    }
  }
}

}  // namespace
}  // namespace limpid
