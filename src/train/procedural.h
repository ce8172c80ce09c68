// Nebulae and galaxies that nobody has seen: power laws and profiles.
#pragma once

#include <torch/torch.h>

#include "core/random.h"

namespace limpid {

/// Nebula and dust by power-law turbulence, galaxies by Sersic profiles: (3, height, width), nearly
/// all of it in [0,1]. Amplitude slopes from -1.2 to -1.9.
torch::Tensor draw_procedural(Random& random, int height, int width);

}  // namespace limpid
