// Linear estimates of what is asked, handed to the network beside the tile itself.
#pragma once

#include <array>

#include <limpid/network.h>

namespace limpid {

/// Guide planes per channel: three non-stellar ones, then three stellar ones.
inline constexpr int guide_count = 6, nonstellar_guide_count = 3;
/// Regularisation of each guide plane, as a share of the PSF's squared transfer at zero frequency.
inline constexpr std::array<double, guide_count> guide_lambda{0.7, 8.0, 0.1, 0.00001, 0.0003, 0.01};
/// Weights made before there was a plane of 0.1 f^3 know five.
inline constexpr int newest_guide = 2;
inline constexpr double lambda_floor = 3e-4;

/// The controls as the network sees them, about zero mean and unit size.
inline constexpr int control_count = 16;
std::array<float, control_count> control_vector(const TileControls& controls);

}  // namespace limpid
