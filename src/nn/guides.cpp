#include "nn/guides.h"

#include <algorithm>
#include <cmath>

namespace limpid {

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
