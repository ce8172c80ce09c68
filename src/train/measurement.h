// What limpid would measure of a scene's PSF, which is not quite the truth.
#pragma once

#include "train/simulator.h"

namespace limpid {

/// What a measurement of this PSF would hand over. `error` = 1: FWHM and ellipticity as badly known
/// as SPEC 3.4 says (3 %, .015), which few stars give; beta is always uncertain by 8 %.
std::array<Psf, 3> measured_like(Random& random, const std::array<Psf, 3>& truth, double error);

/// What a stack of measured stars would tell beyond the Moffat fits: a share of the true difference
/// and noise, inside a window that ends where stars drown in the sky. Often nothing; `is_known`
/// decides where it is given.
void add_measured_residual(Random& random, SceneTensors& scene,
                           const std::optional<bool>& is_known);

/// And what rings around stars would tell of the light further out (measure_psf_wings): the mean
/// of a ring, less that of the ring where the sky is read, right to a tenth and 0.1 % of the light.
/// Nearer than two FWHM it is the Moffat's affair, and wrong with it. A random stream of its own:
/// scenes stay what they are without.
void add_measured_wings(Random random, SceneTensors& scene);

}  // namespace limpid
