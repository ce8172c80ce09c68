#include "train/measurement.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/recording.h"

namespace limpid {

std::array<Psf, 3> measured_like(Random& random, const std::array<Psf, 3>& truth, double error) {
  std::array<Psf, 3> measured = truth;
  const auto known_to = [&](double sigma) { return error * sigma * random.normal(); };
  const double common = known_to(0.02), common_beta = 0.06 * random.normal();
  const double ce1 = known_to(0.01), ce2 = known_to(0.01);
  for (Psf& psf : measured) {
    psf.fwhm_px *= static_cast<float>(std::exp(common + known_to(0.02)));
    const double own_beta = 0.05 * random.normal();
    psf.beta =
        std::clamp(psf.beta * static_cast<float>(std::exp(common_beta + own_beta)), 1.3F, 11.5F);
    psf.e1 += static_cast<float>(ce1 + known_to(0.01));
    psf.e2 += static_cast<float>(ce2 + known_to(0.01));
    psf.dx += static_cast<float>(known_to(0.02));
    psf.dy += static_cast<float>(known_to(0.02));
  }
  return measured;
}

void add_measured_residual(Random& random, SceneTensors& scene,
                           const std::optional<bool>& is_known) {
  const bool drawn = random.chance(0.85), known = is_known.value_or(drawn);
  const double share = random.uniform(0.75, 1), noise = random.log_uniform(0.0003, 0.01);
  const double window_px =
      std::min(0.45 * psf_side_px,
               3 * static_cast<double>(scene.true_psf[1].fwhm_px) + random.uniform(2, 8));
  const auto common = draw_noise(random, 1, psf_side_px, psf_side_px, true)[0];
  const auto own = draw_noise(random, 3, psf_side_px, psf_side_px, true);
  if (!known) return;
  const auto axis = torch::arange(psf_side_px, torch::kFloat) - psf_side_px / 2;
  const auto radius = (axis.unsqueeze(0).square() + axis.unsqueeze(1).square()).sqrt();
  const auto window =
      0.5 + 0.5 * torch::cos(std::numbers::pi * ((radius / window_px - 0.7) / 0.3).clamp(0, 1));
  for (std::size_t c = 0; c < 3; ++c) {
    if (scene.controls.mono && c > 0) {
      scene.controls.residual[c] = scene.controls.residual[0];
      continue;
    }
    // stars are stacked over their own fits, so that what these have wrong in the wings is told
    Psf fit = scene.true_psf[c];
    fit.beta = scene.controls.measured[c].beta;
    const Image moffat = fit.kernel(psf_side_px);
    const auto fitted =
        torch::from_blob(const_cast<float*>(moffat.pixels().data()), {psf_side_px, psf_side_px});
    const auto& kernel = scene.kernels[c];
    const auto errors = (common + own[static_cast<std::int64_t>(c)]) *
                        (noise * kernel.amax().item<double>() / std::numbers::sqrt2);
    const auto residual = (window * (share * (kernel - fitted) + errors)).contiguous();
    scene.controls.residual[c].assign(residual.data_ptr<float>(),
                                      residual.data_ptr<float>() + residual.numel());
  }
}

void add_measured_wings(Random random, SceneTensors& scene) {
  constexpr std::int64_t sky_from_px = 25, sky_width_px = 6, bins = psf_side_px / 2 + 1;
  constexpr double ring_error = 0.001;
  const double share = random.uniform(0.9, 1);
  const auto axis = torch::arange(psf_side_px, torch::kFloat) - psf_side_px / 2;
  const auto radius = (axis.unsqueeze(0).square() + axis.unsqueeze(1).square()).sqrt();
  const auto ring = radius.round().clamp_max(psf_side_px / 2).to(torch::kLong).flatten();
  const auto counts = torch::zeros({bins}).index_add_(0, ring, torch::ones({ring.numel()}));
  auto errors = torch::empty({bins});
  for (std::int64_t i = 0; i < bins; ++i) errors[i] = ring_error * random.normal();
  for (std::size_t c = 0; c < 3; ++c) {
    const auto& residual = scene.controls.residual[c];
    if (residual.empty()) return;
    const Psf& measured = scene.controls.measured[c];
    const Image near = measured.kernel(psf_side_px, residual);
    const auto known =
        torch::from_blob(const_cast<float*>(near.pixels().data()), {psf_side_px, psf_side_px});
    auto light =
        torch::zeros({bins}).index_add_(0, ring, (scene.kernels[c] - known).flatten()) / counts;
    light = light - light.narrow(0, sky_from_px, sky_width_px).mean();
    light.narrow(0, sky_from_px + sky_width_px / 2, bins - sky_from_px - sky_width_px / 2).zero_();
    const auto far =
        (torch::arange(bins, torch::kFloat) / static_cast<double>(measured.fwhm_px) - 1)
            .clamp(0, 1);
    const auto wings = (far * (share * light + errors / counts)).index_select(0, ring).contiguous();
    auto& whole = scene.controls.nonstellar_residual[c];
    whole = residual;
    const float* add = wings.data_ptr<float>();
    for (std::size_t i = 0; i < whole.size(); ++i) whole[i] += add[i];
  }
}

}  // namespace limpid
