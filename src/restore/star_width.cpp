#include "restore/star_width.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <limpid/trust.h>

#include "core/parallel.h"
#include "measure/neighbours.h"

namespace limpid {
namespace {

constexpr int most_windows = 24, fewest_stars = 5, columns = 4;
constexpr float least_snr = 30;
constexpr float widest_correction = 1.7F, narrowest_correction = 0.6F, most_sharpening = 0.7F;
constexpr int trials = 2;

/// Windows around bright isolated stars, none with its centre in another.
std::vector<Rect> windows_around_stars(ConstView frame, const StarCatalogue& catalogue) {
  std::vector<Rect> windows;
  const auto corner = [](float at, int length) {
    return std::clamp(static_cast<int>(std::lround(at)) - trial_window_px / 2, 0,
                      length - trial_window_px);
  };
  for (const Star* star : bright_isolated_stars(catalogue, 4 * most_windows, least_snr)) {
    const Rect window{corner(star->x, frame.width()), corner(star->y, frame.height()),
                      trial_window_px, trial_window_px};
    const bool apart = std::ranges::all_of(windows, [&](const Rect& other) {
      return std::max(std::abs(other.x - window.x), std::abs(other.y - window.y)) >=
             trial_window_px / 2;
    });
    if (apart) windows.push_back(window);
    if (windows.size() == most_windows) break;
  }
  return windows;
}

/// The windows side by side as one frame, and its stars.
class Mosaic {
 public:
  Mosaic(std::vector<Rect> windows, int channels)
      : windows_(std::move(windows)),
        image_(channels, {columns * trial_window_px, rows() * trial_window_px}) {}

  void put(std::size_t index, ConstView window) {
    const Rect place = cell(index);
    for (int c = 0; c < window.channels(); ++c) {
      for (int y = 0; y < trial_window_px; ++y) {
        std::ranges::copy(window.row(c, y), image_.view().row(c, place.y + y).begin() + place.x);
      }
    }
  }
  [[nodiscard]] ConstView view() const { return image_.view(); }

  /// Stars whose surroundings are cut off count as standing on the edge.
  [[nodiscard]] StarCatalogue stars_of(const StarCatalogue& catalogue) const {
    StarCatalogue moved{{}, catalogue.sky, catalogue.saturation, image_.view().size()};
    for (std::size_t i = 0; i < windows_.size(); ++i) {
      for (const Star& star : catalogue.stars) {
        const float x = star.x - static_cast<float>(windows_[i].x),
                    y = star.y - static_cast<float>(windows_[i].y);
        constexpr float side = trial_window_px - 1;
        if (!(x >= 0 && y >= 0 && x <= side && y <= side)) continue;
        const float border = 3 * star.fwhm_px + 4;
        Star copy = star;
        const float dx = static_cast<float>(cell(i).x - windows_[i].x),
                    dy = static_cast<float>(cell(i).y - windows_[i].y);
        copy.x += dx, copy.y += dy;
        for (StarFit& fit : copy.fits) fit.x += dx, fit.y += dy;
        copy.on_edge |= std::min({x, y, side - x, side - y}) < border;
        moved.stars.push_back(std::move(copy));
      }
    }
    std::ranges::stable_sort(moved.stars, std::ranges::greater{}, &Star::flux);
    return moved;
  }

 private:
  [[nodiscard]] int rows() const {
    return (static_cast<int>(windows_.size()) + columns - 1) / columns;
  }
  [[nodiscard]] static Rect cell(std::size_t index) {
    const int i = static_cast<int>(index);
    return {i % columns * trial_window_px, i / columns * trial_window_px, trial_window_px,
            trial_window_px};
  }

  std::vector<Rect> windows_;
  Image image_;
};

}  // namespace

float sharpening_to_request(ConstView frame, const StarCatalogue& catalogue, float asked,
                            const RestoreWindow& restore, int threads, const Progress& progress) {
  if (asked <= 0 || std::min(frame.width(), frame.height()) < trial_window_px) return asked;
  const std::vector<Rect> windows = windows_around_stars(frame, catalogue);
  if (windows.empty()) return asked;
  Mosaic before(windows, frame.channels()), after(windows, frame.channels());
  for (std::size_t i = 0; i < windows.size(); ++i) before.put(i, frame.crop(windows[i]));
  const StarCatalogue stars = before.stars_of(catalogue);

  const float lowest = narrowest_correction * asked,
              highest = std::min(most_sharpening, widest_correction * asked);
  // what was requested and how much narrower stars became, at first without any request
  float earlier_request = 0, earlier_gain = 0, request = asked;
  for (int trial = 0; trial < trials; ++trial) {
    parallel_for(static_cast<int>(windows.size()), threads, [&](int i) {
      progress.throw_if_stopped();
      const auto at = static_cast<std::size_t>(i);
      const Image restored = restore(windows[at], request);
      after.put(at, restored.view());
    });
    const TrustReport found =
        compare_stars(stars, before.view(), after.view(), 1 - request, threads, progress);
    if (found.stars_compared < fewest_stars) return asked;
    const auto gain = static_cast<float>(1 - found.fwhm_ratio.median);
    const float slope = (gain - earlier_gain) / (request - earlier_request);
    if (!(slope > 0.1F)) return request;  // more does not help
    const float better = std::clamp(request + (asked - gain) / slope, lowest, highest);
    if (std::abs(better - request) < 0.002F) return better;
    earlier_request = request, earlier_gain = gain;
    request = better;
  }
  return request;
}

}  // namespace limpid
