#include "nn/guides.h"

#include <algorithm>
#include <cmath>

namespace limpid {
namespace {

/// Transfer function (h, w / 2 + 1) of a PSF whose centre lies on pixel (0, 0).
torch::Tensor transfer(Image kernel, std::int64_t height, std::int64_t width,
                       const torch::Device& device) {
  const auto small =
      torch::from_blob(kernel.pixels().data(), {psf_kernel_px, psf_kernel_px}).to(device);
  auto field = torch::zeros({height, width}, small.options());
  using torch::indexing::Slice;
  field.index_put_({Slice(0, psf_kernel_px), Slice(0, psf_kernel_px)}, small);
  return torch::fft::rfft2(field.roll({-psf_kernel_px / 2, -psf_kernel_px / 2}, {0, 1}));
}

}  // namespace

bool TileControls::shared_psf() const {
  for (std::size_t c = 0; c < 3; ++c) {
    if (measured[c] != nonstellar[c] || !nonstellar_residual[c].empty()) return false;
  }
  return true;
}

std::span<const float> TileControls::undone_residual(std::size_t channel) const {
  const auto& own = nonstellar_residual[channel];
  const bool measured_too = own.empty() && measured[channel] == nonstellar[channel];
  return measured_too ? residual[channel] : own;
}

Image TileControls::nonstellar_kernel(std::size_t channel) const {
  return nonstellar[channel].kernel(psf_kernel_px, undone_residual(channel));
}

WantedPsfs wanted_psfs(const TileControls& controls) {
  const auto mean = [](const std::array<Psf, 3>& psfs) {
    double log_fwhm = 0, log_beta = 0;
    for (const Psf& psf : psfs) {
      log_fwhm += std::log(static_cast<double>(psf.fwhm_px)) / 3;
      log_beta += std::log(static_cast<double>(psf.beta)) / 3;
    }
    Psf round;
    round.fwhm_px = static_cast<float>(std::exp(log_fwhm));
    round.beta = static_cast<float>(std::exp(log_beta));
    return round;
  };
  WantedPsfs wanted{mean(controls.measured), mean(controls.nonstellar)};
  wanted.stellar.fwhm_px =
      std::max(wanted.stellar.fwhm_px * (1 - controls.sharpen_stars), 0.7F * smallest_fwhm_px);
  wanted.stellar.beta =
      std::clamp(wanted.stellar.beta * std::exp2(-1.5F * controls.adjust_halos), 1.3F, 12.0F);
  wanted.nonstellar.fwhm_px =
      std::max(wanted.nonstellar.fwhm_px * (1 - controls.sharpen_nonstellar),
               std::min(smallest_fwhm_px, wanted.nonstellar.fwhm_px));
  return wanted;
}

torch::Tensor guide_planes(const torch::Tensor& tile, const TileControls& controls) {
  const auto height = tile.size(1), width = tile.size(2);
  const WantedPsfs wanted = wanted_psfs(controls);
  const auto nonstellar =
      transfer(wanted.nonstellar.kernel(psf_kernel_px), height, width, tile.device());
  const auto stellar = transfer(wanted.stellar.kernel(psf_kernel_px), height, width, tile.device());
  const auto spectra = torch::fft::rfft2(tile);
  const bool shared = controls.shared_psf();
  const bool one_psf = controls.mono;
  std::vector<torch::Tensor> filtered;
  filtered.reserve(12);
  std::array<torch::Tensor, 3> measured, undone;
  // Nebulae have little light in fine structure: the noise's share grows with the third power of
  // the frequency (power spectra of f^-3). Stars are points: theirs is constant.
  const auto fy = torch::fft::fftfreq(height, tile.options()).unsqueeze(1);
  const auto fx = torch::fft::rfftfreq(width, tile.options()).unsqueeze(0);
  const auto steep = (fy.square() + fx.square()).pow(1.5);
  for (std::size_t c = 0; c < 3; ++c) {
    measured[c] = one_psf && c > 0
                      ? measured[0]
                      : transfer(controls.measured[c].kernel(psf_kernel_px, controls.residual[c]),
                                 height, width, tile.device());
    undone[c] = shared ? measured[c]
                       : transfer(controls.nonstellar_kernel(c), height, width, tile.device());
  }
  for (std::size_t k = 0; k < guide_count; ++k) {
    const bool is_stellar = k >= nonstellar_guide_count;
    for (std::size_t c = 0; c < 3; ++c) {
      const auto& g = is_stellar ? measured[c] : undone[c];
      const auto lambda = is_stellar ? torch::full({1, 1}, guide_lambda[k], tile.options())
                                     : guide_lambda[k] * steep + lambda_floor;
      const auto power = torch::real(g * torch::conj(g)) + lambda;
      const auto w = ((is_stellar ? stellar : nonstellar) * torch::conj(g) + lambda) / power;
      filtered.push_back(spectra[static_cast<std::int64_t>(c)] * w);
    }
  }
  return torch::fft::irfft2(torch::stack(filtered), at::IntArrayRef({height, width}))
      .view({guide_count, 3, height, width});
}

std::array<float, control_count> control_vector(const TileControls& controls) {
  const WantedPsfs wanted = wanted_psfs(controls);
  float log_fwhm = 0, e1 = 0, e2 = 0, beta = 0, nonstellar = 0;
  for (std::size_t c = 0; c < 3; ++c) {
    log_fwhm += std::log2(controls.measured[c].fwhm_px) / 3;
    nonstellar += std::log2(controls.nonstellar[c].fwhm_px) / 3;
    e1 += controls.measured[c].e1 / 3;
    e2 += controls.measured[c].e2 / 3;
    beta += controls.measured[c].beta / 3;
  }
  std::array<float, control_count> v{};
  v[0] = log_fwhm - 1.75F;
  v[1] = 4 * e1;
  v[2] = 4 * e2;
  v[3] = 2 * controls.sharpen_stars - 0.5F;
  v[4] = 2 * controls.adjust_halos;
  v[5] = 0.5F * (std::log2(wanted.nonstellar.fwhm_px) - nonstellar) + 1;
  v[6] = beta / 4 - 1;
  for (std::size_t c = 0; c < 3; ++c) {
    v[7 + c] = 4 * (std::log2(controls.measured[c].fwhm_px) - log_fwhm);
  }
  v[10] = controls.mono ? 1.0F : -1.0F;
  v[11] = std::log2(wanted.stellar.fwhm_px) - 1.25F;
  v[12] = 2 * controls.sharpen_nonstellar - 1;
  v[13] = nonstellar - log_fwhm;
  v[14] = std::log2(wanted.nonstellar.fwhm_px) - 0.5F;
  return v;
}

}  // namespace limpid
