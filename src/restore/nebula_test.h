// What tests of nebulae have in common.
#pragma once

#include <utility>
#include <vector>

#include <limpid/network.h>

#include "core/fft.h"

namespace limpid {

/// A light of one channel as this PSF shows it, on a periodic field.
inline Image blurred(const Image& light, const Psf& psf) {
  std::vector<Image> kernels;
  kernels.push_back(psf.kernel(psf_kernel_px));
  Spectrum spectrum = fft(light.view());
  const Spectrum by = transfer(kernels, light.size());
  for (std::size_t i = 0; i < spectrum.plane(0).size(); ++i) spectrum.plane(0)[i] *= by.plane(0)[i];
  return inverse_fft(std::move(spectrum));
}

}  // namespace limpid
