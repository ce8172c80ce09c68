// How light falls off around the typical star, from the stacked pixels of many.
#include <algorithm>
#include <cmath>

#include <limpid/stars.h>

#include "core/statistics.h"

namespace limpid {

std::vector<RadialPoint> measure_radial_profile(ConstView frame, const StarCatalogue& catalogue,
                                                int channel) {
  constexpr std::size_t most_stars = 100;
  constexpr float bin_px = 0.5F, reach_fwhm = 4;
  const auto index = static_cast<std::size_t>(channel);
  std::vector<const StarFit*> stars;
  for (const Star& star : catalogue.stars) {
    if (stars.size() == most_stars) break;
    if (index < star.fits.size() && star.fits[index].psf.fwhm_px > 0)
      stars.push_back(&star.fits[index]);
  }
  if (stars.empty()) return {};
  std::vector<float> widths;
  for (const StarFit* fit : stars) widths.push_back(fit->psf.fwhm_px);
  const int reach = static_cast<int>(std::ceil(reach_fwhm * median(widths)));
  std::vector<std::vector<float>> bins(
      static_cast<std::size_t>(static_cast<float>(reach) / bin_px));
  for (const StarFit* fit : stars) {
    const int x0 = static_cast<int>(std::lround(fit->x)),
              y0 = static_cast<int>(std::lround(fit->y));
    for (int y = std::max(0, y0 - reach); y <= std::min(frame.height() - 1, y0 + reach); ++y) {
      for (int x = std::max(0, x0 - reach); x <= std::min(frame.width() - 1, x0 + reach); ++x) {
        const float distance =
            std::hypot(static_cast<float>(x) - fit->x, static_cast<float>(y) - fit->y);
        const auto bin = static_cast<std::size_t>(distance / bin_px);
        const float value = frame(channel, y, x);
        if (bin < bins.size() && std::isfinite(value))
          bins[bin].push_back((value - fit->sky) / fit->peak);
      }
    }
  }
  std::vector<RadialPoint> profile;
  for (std::size_t bin = 0; bin < bins.size(); ++bin) {
    if (bins[bin].empty()) continue;
    const Spread spread = robust_spread(bins[bin]);
    profile.push_back({(static_cast<float>(bin) + 0.5F) * bin_px, spread.median, spread.sigma});
  }
  return profile;
}

}  // namespace limpid
