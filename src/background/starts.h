// Where the control points of the sky's spline start, and with which values.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "background/scene.h"
#include "background/spline.h"

namespace limpid::background {

/// The places of start number `index`: the asked layout, the grid shaken, then random.
SplinePoints lay_out(const Scene& scene, const BackgroundOptions& options, int index);

/// A sky in the frame's units, at a place in pixels.
using SkyAt = std::function<void(double x, double y, std::span<float> values)>;

/// `options.points`; those without values get the median of the sky that is seen nearest to them,
/// as the `known` one sees it, if there is one: by its slope, and as far below the pixels.
std::vector<ControlPoint> with_values(const Scene& scene, const BackgroundOptions& options,
                                      const SkyAt& known = {});

/// Those of `options.points`, all of which have values.
SplinePoints from_user(const Scene& scene, const BackgroundOptions& options);

}  // namespace limpid::background
