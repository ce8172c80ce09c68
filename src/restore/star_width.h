// Asking the network for what makes stars as wide as the user wants them.
#pragma once

#include <functional>

#include <limpid/image.h>
#include <limpid/progress.h>
#include <limpid/stars.h>

namespace limpid {

/// `window` of the frame, restored with this sharpening of stars; must be callable in parallel.
using RestoreWindow = std::function<Image(Rect window, float sharpen_stars)>;

/// Side of the windows that are tried, px.
inline constexpr int trial_window_px = 128;

/// The network delivers a little less than it is asked for, and how much less depends on the frame.
/// So windows around a few bright stars are restored and measured, and the request is corrected by
/// the secant rule, twice. `asked`: 0..0.7, what the user wants; returns what to request of the
/// network, at most 0.7 and between 0.6 and 1.7 times `asked`; `asked` itself without five stars.
float sharpening_to_request(ConstView frame, const StarCatalogue& catalogue, float asked,
                            const RestoreWindow& restore, int threads,
                            const Progress& progress = {});

}  // namespace limpid
