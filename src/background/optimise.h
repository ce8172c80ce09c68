// Moves the control points and their values until the loss stops falling.
#pragma once

#include <functional>
#include <vector>

#include "background/loss.h"

namespace limpid::background {

struct AdamOptions {
  double learning_rate = 0.001;
  double complexity = 0;
  int iterations = 1000;
  const Spline* reference = nullptr;  ///< bending is that away from it
  bool settle = false;  ///< the rate falls steadily to a hundredth, and there is no early stop
};

/// But for `settle`, the settings of the source (Keras' callbacks): the rate halves when the loss
/// has not fallen by 1e-4 for 50 iterations, down to 1e-4; the end comes when it has not fallen by
/// 5e-5 for 100.
struct Descent {
  SplinePoints points;       ///< the best that were seen
  double objective = 0;      ///< their loss + complexity * bending
  double learning_rate = 0;  ///< at the end
  std::vector<float> curve;  ///< objective at each iteration
};

/// Adam (Kingma and Ba 2015, arXiv:1412.6980; epsilon 1e-7 as Keras has it). `tell` is called with
/// each iteration's number.
Descent descend(const Loss& loss, SplinePoints start, const AdamOptions& options,
                const std::function<void(int)>& tell = {});

}  // namespace limpid::background
