// What an evaluation looks at: one kind of scene per row of its table.
#pragma once

#include <string>
#include <vector>

#include <limpid/training.h>

namespace limpid {

inline constexpr int evaluation_px = 192;  ///< side of its scenes

struct EvaluationRow {
  std::string label;
  SceneOptions scene;
};
/// Isolated stars without nebulae; nebulae without stars (and a cluster); stars over full scale;
/// nothing but noise.
std::vector<EvaluationRow> star_rows();
std::vector<EvaluationRow> nebula_rows();
EvaluationRow clipped_row();
EvaluationRow noise_row();

std::string labelled(const char* format, double a, double b = 0);

}  // namespace limpid
