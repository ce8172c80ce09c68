// 95 % intervals of what was measured on a handful of scenes.
#pragma once

#include <vector>

#include <limpid/training.h>

namespace limpid {

/// Median over everything, or mean over all values, and the interval by resampling whole scenes,
/// whose stars share a PSF (bootstrap, percentiles of 1000 draws: Efron 1979, Ann. Statist. 7, 1).
/// NaN are left out; no interval from fewer than three scenes.
Estimate median_of(const std::vector<std::vector<double>>& scenes);
Estimate mean_of(const std::vector<double>& scenes);
/// What was counted times `scale`, with the exact interval of a Poisson count (Garwood 1936,
/// Biometrika 28, 437).
Estimate counted(int count, double scale);

}  // namespace limpid
