// Scenes of known truth, and what networks and the program make of them.
#pragma once

#include <limpid/training.h>

#include "nn/model_file.h"
#include "train/evaluation_rows.h"
#include "train/simulator.h"

namespace limpid {

/// What is shown to the networks, and what they say.
class Judge {
 public:
  explicit Judge(const EvaluateOptions& options);
  struct Answer {
    SceneTensors scene;
    torch::Tensor guides;                            ///< of the whole field
    torch::Tensor input, target, network, previous;  ///< (3, evaluation_px, evaluation_px)
  };
  Answer answer(std::uint64_t index, const SceneOptions& options);
  /// What the program makes of a scene; undefined where it finds too little to work with.
  [[nodiscard]] torch::Tensor program(const SceneTensors& scene) const;
  struct Measured {
    TileControls controls;
    float noise_correlation = 1;
  };
  /// What limpid measures in a field of stars recorded with the same telescope; nothing where it
  /// finds no PSF, or where the telescope cannot be drawn again.
  [[nodiscard]] std::optional<Measured> measured_psf(const Answer& a, std::uint64_t index,
                                                     const SceneOptions& options) const;
  /// What the network says of the whole field when it is told this.
  torch::Tensor told(const Answer& a, const TileControls& controls);
  /// What the program makes of that answer for a scene without stars; undefined without
  /// EvaluateOptions::agree.
  [[nodiscard]] torch::Tensor in_agreement(const Answer& a, const torch::Tensor& answer,
                                           const TileControls& controls,
                                           float noise_correlation) const;

 private:
  std::function<Image(ConstView, const TileControls&)> restore_;
  std::function<void(ConstView, const StarCatalogue&, const TileControls&, MutableView)> agree_;
  torch::Device device_;
  torch::ScalarType type_;
  Model model_;
  std::optional<Model> previous_;
  SceneSimulator simulator_;
};

}  // namespace limpid
