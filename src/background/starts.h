// Where the control points of the sky's spline start, and with which values.
#pragma once

#include "background/scene.h"
#include "background/spline.h"

namespace limpid::background {

/// The places of start number `index`: the asked layout, the grid shaken, then random.
SplinePoints lay_out(const Scene& scene, const BackgroundOptions& options, int index);

/// `options.points`; those without values get the median of the sky that is seen nearest to them.
std::vector<ControlPoint> with_values(const Scene& scene, const BackgroundOptions& options);

/// Those of `options.points`, all of which have values.
SplinePoints from_user(const Scene& scene, const BackgroundOptions& options);

}  // namespace limpid::background
