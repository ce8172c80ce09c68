#include "restore/star_width.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <limpid/network.h>

#include "core/parallel.h"
#include "measure/neighbours.h"
#include "restore/star_comparison.h"

namespace limpid {
namespace {

constexpr int most_windows = 24, fewest_stars = 5, columns = 4;
constexpr float least_snr = 30;
constexpr float widest_correction = 1.7F, narrowest_correction = 0.6F, most_sharpening = 0.7F;
constexpr int last_request = static_cast<int>(tried_requests.size()) - 1;
/// Gains fall behind requests: r (a - bend r). On real and simulated frames bends of -0.06 to 0.33
/// were found; with one trial not far above what is wanted, this one errs by 0.005 at most.
constexpr float usual_bend = 0.13F;
constexpr float least_slope = 0.1F;  // of gain by request: with less, more does not help

/// Windows around bright isolated stars, none with its centre in another. They begin where the
/// network's blocks do in the whole frame: how wide a star comes out depends on where in its block
/// it stands (at S = .5 from .44 to .51).
std::vector<Rect> windows_around_stars(ConstView frame, const StarCatalogue& catalogue) {
  std::vector<Rect> windows;
  const auto corner = [](float at, int length) {
    const int block = Network::granularity_px();
    const float from = at - static_cast<float>(trial_window_px) / 2;
    const int last = (length - trial_window_px) / block;
    return block *
           std::clamp(static_cast<int>(std::lround(from / static_cast<float>(block))), 0, last);
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

struct StarTrials::Body {
  Body(ConstView frame, const StarCatalogue& catalogue, std::vector<Rect> places, int threads,
       const Progress& progress)
      : windows(std::move(places)),
        before(windows, frame.channels()) {
    for (std::size_t i = 0; i < windows.size(); ++i) before.put(i, frame.crop(windows[i]));
    if (windows.empty()) return;
    stars = before.stars_of(catalogue);
    comparison.emplace(stars, before.view(), threads, progress);
  }

  std::vector<Rect> windows;
  Mosaic before;
  StarCatalogue stars;
  std::optional<StarComparison> comparison;
};

StarTrials::StarTrials(ConstView frame, const StarCatalogue& catalogue, int threads,
                       const Progress& progress) {
  std::vector<Rect> windows;
  if (std::min(frame.width(), frame.height()) >= trial_window_px)
    windows = windows_around_stars(frame, catalogue);
  body_ = std::make_unique<Body>(frame, catalogue, std::move(windows), threads, progress);
}

StarTrials::~StarTrials() = default;

const std::vector<Rect>& StarTrials::windows() const { return body_->windows; }

std::optional<float> StarTrials::gain(const RestoreWindow& restore, float request, int threads,
                                      const Progress& progress) const {
  if (!body_->comparison) return std::nullopt;
  Mosaic after(body_->windows, body_->before.view().channels());
  parallel_for(static_cast<int>(body_->windows.size()), threads, [&](int i) {
    progress.throw_if_stopped();
    const auto at = static_cast<std::size_t>(i);
    after.put(at, restore(at, request).view());
  });
  const WidthRatio found =
      body_->comparison->width_ratio(after.view(), 1 - request, threads, progress);
  if (found.stars < fewest_stars) return std::nullopt;
  return static_cast<float>(1 - found.median);
}

namespace {

float request_of(int number) { return tried_requests[static_cast<std::size_t>(number)]; }

/// What gives `asked` where request r gave `gain`, on a curve through zero that bends as usual.
float on_usual_curve(float r, float gain, float asked) {
  const float slope = gain / r + usual_bend * r;
  const float root = slope * slope - 4 * usual_bend * asked;
  return root > 0 ? (slope - std::sqrt(root)) / (2 * usual_bend) : r;
}

}  // namespace

float sharpening_to_request(const StarTrials& trials, float asked, const RestoreWindow& restore,
                            Gains& known, int threads, const Progress& progress) {
  if (asked <= 0) return asked;
  const auto gain_of = [&](int number) -> std::optional<float> {
    if (number == 0) return 0.0F;
    if (const auto found = known.find(number); found != known.end()) return found->second;
    const auto gain = trials.gain(restore, request_of(number), threads, progress);
    if (gain) known.emplace(number, *gain);
    return gain;
  };
  const float lowest = narrowest_correction * asked,
              highest = std::min(most_sharpening, widest_correction * asked);
  int above = 1;
  while (above < last_request && request_of(above) < 1.1F * asked) ++above;
  auto high = gain_of(above);
  if (!high || !(*high > least_slope * request_of(above))) return asked;
  if (*high >= asked && above == 1)
    return std::clamp(on_usual_curve(request_of(above), *high, asked), lowest, highest);
  int below = above - 1;
  std::optional<float> low;
  if (*high < asked && above < last_request) {
    do {
      below = above++;
      low = high;
      high = gain_of(above);
      if (!high) return asked;
    } while (*high < asked && above<last_request&& * high> * low);
  } else {
    low = gain_of(below);
    while (low && *low > asked) {  // it gives more than it is asked for
      above = below--;
      high = low;
      low = gain_of(below);
    }
  }
  if (!low) return asked;
  const float slope = (*high - *low) / (request_of(above) - request_of(below));
  if (!(slope > least_slope)) return std::clamp(request_of(below), lowest, highest);
  return std::clamp(request_of(below) + (asked - *low) / slope, lowest, highest);
}

}  // namespace limpid
