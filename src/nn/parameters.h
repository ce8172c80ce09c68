// A network's weights as plain numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "nn/safetensors.h"
#include "nn/shape.h"

namespace limpid {

struct Parameter {
  std::vector<std::int64_t> shape;
  std::vector<float> values;  ///< row by row
};
using Parameters = std::map<std::string, Parameter>;
using ParameterShapes = std::map<std::string, std::vector<std::int64_t>>;

/// The tensors of a file; `header` is its own. Throws Error(bad_model).
Parameters read_parameters(const std::filesystem::path& path, const SafetensorsHeader& header);

/// Those of a guided_unet. Throws Error(bad_model) for nonsense.
ParameterShapes guided_unet_shapes(const ArchitectureOptions& options);

/// Throws Error(bad_model) unless a weight is what its network needs.
void check_weight(const std::filesystem::path& path, const std::string& name, bool of_its_shape,
                  bool finite);
/// Throws Error(bad_model) when one of `shapes` is missing, of another shape or not finite.
void check_parameters(const Parameters& parameters, const ParameterShapes& shapes,
                      const std::filesystem::path& path);
/// Gives `parameters` of a network that knows one guide plane less zero weights for the newest: it
/// takes nothing of that plane, and answers as before.
void add_missing_plane(Parameters& parameters);

}  // namespace limpid
