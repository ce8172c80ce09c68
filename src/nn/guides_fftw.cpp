// The guide planes on the CPU, by FFTW, which is faster there than LibTorch's transforms.
#include <cmath>

#include "core/fft.h"
#include "core/parallel.h"
#include "nn/guides.h"

namespace limpid {
Image guide_planes(ConstView tile, const TileControls& controls, int threads) {
  const Size size = tile.size();
  const WantedPsfs wanted = wanted_psfs(controls);
  const bool shared = controls.shared_psf();
  const int colours = controls.mono ? 1 : 3;
  std::vector<Image> kernels;
  const auto add = [&](const Psf& psf, const std::vector<float>& residual) {
    kernels.push_back(psf.kernel(psf_kernel_px, residual));
    return static_cast<int>(kernels.size()) - 1;
  };
  const int nonstellar = add(wanted.nonstellar, {}), stellar = add(wanted.stellar, {});
  std::array<int, 3> measured{}, undone{};
  for (std::size_t c = 0; c < static_cast<std::size_t>(colours); ++c) {
    measured[c] = add(controls.measured[c], controls.residual[c]);
    undone[c] = shared ? measured[c] : add(controls.nonstellar[c], {});
  }
  const Spectrum transfers = transfer(kernels, size, threads);
  const Spectrum spectra = fft(tile.channels() == colours ? tile : tile.channel(0), threads);

  Spectrum filtered(guide_count * colours, size);
  parallel_for(filtered.channels(), threads, [&](int plane) {
    const auto k = static_cast<std::size_t>(plane / colours),
               c = static_cast<std::size_t>(plane % colours);
    const bool is_stellar = k >= nonstellar_guide_count;
    const auto lambda_of = static_cast<float>(guide_lambda[k]);
    const auto columns = static_cast<std::size_t>(spectra.columns());
    std::vector<float> lambda(columns, lambda_of);
    for (int ky = 0; ky < size.height; ++ky) {
      const auto* light =
          reinterpret_cast<const float*>(spectra.row(static_cast<int>(c), ky).data());
      const auto* g = reinterpret_cast<const float*>(
          transfers.row(is_stellar ? measured[c] : undone[c], ky).data());
      const auto* want = reinterpret_cast<const float*>(
          transfers.row(is_stellar ? stellar : nonstellar, ky).data());
      auto* out = reinterpret_cast<float*>(filtered.row(plane, ky).data());
      if (!is_stellar) {
        const float fy = static_cast<float>(ky < (size.height + 1) / 2 ? ky : ky - size.height) /
                         static_cast<float>(size.height);
        for (std::size_t kx = 0; kx < columns; ++kx) {
          const float fx = static_cast<float>(kx) / static_cast<float>(size.width),
                      f2 = fx * fx + fy * fy;
          lambda[kx] = lambda_of * f2 * std::sqrt(f2) + static_cast<float>(lambda_floor);
        }
      }
      // light * (want * conj(g) + lambda) / (|g|^2 + lambda), written out: std::complex looks for
      // NaN
      for (std::size_t kx = 0; kx < columns; ++kx) {
        const float gr = g[2 * kx], gi = g[2 * kx + 1], wr = want[2 * kx], wi = want[2 * kx + 1];
        const float scale = 1 / (gr * gr + gi * gi + lambda[kx]);
        const float fr = (wr * gr + wi * gi + lambda[kx]) * scale, fi = (wi * gr - wr * gi) * scale;
        const float lr = light[2 * kx], li = light[2 * kx + 1];
        out[2 * kx] = lr * fr - li * fi;
        out[2 * kx + 1] = lr * fi + li * fr;
      }
    }
  });
  return inverse_fft(std::move(filtered), threads);
}

}  // namespace limpid
