// The descent: control points moved until the surface is the sky, stage by stage, and judged.
#pragma once

#include <optional>
#include <vector>

#include <limpid/progress.h>

#include "background/scene.h"
#include "background/spline.h"

namespace limpid::background {

struct Fitted {
  SplinePoints points;
  std::optional<Spline> reference;  ///< what bending is measured from; none: from a plane
  std::vector<float> curve;
  int start = 0;
  bool start_kept = false;  ///< for the descent explains no more of what it has not seen
  bool flat = false;        ///< for nothing else is sure
  bool exact = false;       ///< the model is the scene's sky itself, which the points only approach
};

Fitted optimise(const Scene& scene, const BackgroundOptions& options, const Progress& progress);

}  // namespace limpid::background
