// Asking the network for what makes stars as wide as the user wants them.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <limpid/image.h>
#include <limpid/progress.h>
#include <limpid/stars.h>

namespace limpid {

/// Side of the windows that are tried, px.
inline constexpr int trial_window_px = 96;

/// Window number `index`, restored with this sharpening of stars; must be callable in parallel.
using RestoreWindow = std::function<Image(std::size_t index, float sharpen_stars)>;

/// Windows around a few bright stars of a frame, in which it is tried how much narrower stars
/// become. Refers to nothing.
class StarTrials {
 public:
  StarTrials(ConstView frame, const StarCatalogue& catalogue, int threads,
             const Progress& progress = {});
  ~StarTrials();
  StarTrials(const StarTrials&) = delete;
  StarTrials& operator=(const StarTrials&) = delete;

  /// None where the frame is too small, or no star is bright and alone.
  [[nodiscard]] const std::vector<Rect>& windows() const;
  /// 1 - width after / width before, median of the stars; nothing with fewer than five.
  [[nodiscard]] std::optional<float> gain(const RestoreWindow& restore, float request, int threads,
                                          const Progress& progress = {}) const;

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

/// Sharpening that is tried, whatever is asked.
inline constexpr std::array<float, 5> tried_requests{0, 0.18F, 0.36F, 0.53F, 0.7F};
/// What trials found: gains by their number above. They may be kept for the next that asks.
using Gains = std::map<int, float>;

/// The network delivers a little less than it is asked for, and how much less depends on the frame.
/// So windows are restored with one or two fixed requests, and what to request is interpolated.
/// `asked`: 0..0.7, what the user wants; returns what to request of the network, at most 0.7 and
/// between 0.6 and 1.7 times `asked`; `asked` itself where nothing can be measured.
float sharpening_to_request(const StarTrials& trials, float asked, const RestoreWindow& restore,
                            Gains& known, int threads, const Progress& progress = {});

}  // namespace limpid
