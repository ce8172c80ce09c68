#include "nn/torch_guides.h"

#include <vector>

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

}  // namespace limpid
