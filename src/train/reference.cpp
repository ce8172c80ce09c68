#include "train/reference.h"

#include <algorithm>

namespace limpid {
namespace {

/// div(grad x / |grad x|) on a periodic field; the gradient's size softened by a thousandth of the
/// noise, where the picture is flat.
torch::Tensor curvature(const torch::Tensor& x) {
  const auto dx = x.roll(-1, 2) - x, dy = x.roll(-1, 1) - x;
  const auto size = (dx.square() + dy.square() + 1e-6).sqrt();
  const auto u = dx / size, v = dy / size;
  return u - u.roll(1, 2) + v - v.roll(1, 1);
}

}  // namespace

std::map<int, torch::Tensor> richardson_lucy(const SceneTensors& scene, double variation) {
  const auto field = scene.input.size(1);
  const double pedestal = 20 - std::min(0.0, scene.input.amin().item<double>());
  const auto recorded = (scene.input + pedestal).clamp_min(0.01);
  std::vector<torch::Tensor> spectra;
  for (const auto& kernel : scene.kernels) spectra.push_back(kernel_spectrum(kernel, field, field));
  const auto transfer = torch::stack(spectra);
  const std::array<std::int64_t, 2> size{field, field};
  auto estimate = recorded.clone();
  std::map<int, torch::Tensor> results;
  for (int i = 1; i <= lucy_steps.back(); ++i) {
    const auto predicted =
        torch::fft::irfft2(torch::fft::rfft2(estimate) * transfer, size).clamp_min(0.01);
    const auto factor =
        torch::fft::irfft2(torch::fft::rfft2(recorded / predicted) * torch::conj(transfer), size);
    estimate = variation > 0 ? estimate * factor / (1 - variation * curvature(estimate))
                             : estimate * factor;
    if (std::ranges::count(lucy_steps, i) > 0) results[i] = estimate - pedestal;
  }
  return results;
}

torch::Tensor wiener_bound(const SceneTensors& scene) {
  const auto field = scene.input.size(1);
  const auto wanted =
      kernel_spectrum(central_phase(oversampled_moffat(scene.wanted.nonstellar)), field, field);
  const auto fy = torch::fft::fftfreq(field, torch::kFloat).unsqueeze(1),
             fx = torch::fft::rfftfreq(field, torch::kFloat).unsqueeze(0);
  const auto radius = ((fy.square() + fx.square()).sqrt() * static_cast<double>(field))
                          .round()
                          .to(torch::kLong)
                          .flatten();
  const auto bins = radius.max().item<std::int64_t>() + 1;
  const auto counts = torch::zeros({bins}).index_add_(0, radius, torch::ones({radius.numel()}));
  const auto radial = [&](const torch::Tensor& power) {
    const auto sums = torch::zeros({bins}).index_add_(0, radius, power.flatten());
    return (sums / counts.clamp_min(1)).index_select(0, radius).view(power.sizes());
  };
  const auto wanted_power = radial(wanted.abs().square());
  std::vector<torch::Tensor> channels;
  for (std::int64_t c = 0; c < 3; ++c) {
    const auto psf = kernel_spectrum(scene.kernels[static_cast<std::size_t>(c)], field, field);
    const auto light =
        radial(torch::fft::rfft2(scene.ideal[c] - scene.ideal[c].mean()).abs().square()) /
        wanted_power.clamp_min(1e-6);
    const double noise = (scene.input[c] - scene.blurred[c]).square().mean().item<double>() *
                         static_cast<double>(field * field);
    const auto filter =
        (wanted * torch::conj(psf) * light + noise) / (psf.abs().square() * light + noise);
    channels.push_back(torch::fft::irfft2(torch::fft::rfft2(scene.input[c]) * filter,
                                          at::IntArrayRef({field, field})));
  }
  return torch::stack(channels);
}

}  // namespace limpid
