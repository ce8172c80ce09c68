// What a network must beat: linear filters and Richardson-Lucy, with the true PSF.
#pragma once

#include <map>

#include "train/simulator.h"

namespace limpid {

/// Richardson (1972, JOSA 62, 55) and Lucy (1974, AJ 79, 745) with the true PSF; what has become of
/// it after so many steps. `variation` above 0 adds total variation as Dey et al. (2006, Microsc.
/// Res. Tech. 69, 260) do: x / (1 - variation div(grad x / |grad x|)).
std::map<int, torch::Tensor> richardson_lucy(const SceneTensors& scene, double variation = 0);
/// Steps at which it is looked at; weights of the total variation that are tried.
inline constexpr std::array<int, 4> lucy_steps{5, 10, 20, 40};
inline constexpr std::array<double, 2> lucy_variations{0.002, 0.02};

/// The best linear filter there is: true PSF, the scene's own power spectrum, the noise's power.
/// For the target f*g' + n it is (G' conj(G) P + N) / (|G|^2 P + N).
torch::Tensor wiener_bound(const SceneTensors& scene);

}  // namespace limpid
