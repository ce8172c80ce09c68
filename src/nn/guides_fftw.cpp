// The guide planes on the CPU, by FFTW, which is faster there than LibTorch's transforms.
#include "nn/guides_fftw.h"

#include <cmath>

#include "core/fft_columns.h"

namespace limpid {
namespace {

using Values = std::span<std::complex<float>>;
using ConstValues = std::span<const std::complex<float>>;

/// light (want conj(g) + lambda) / (|g|^2 + lambda), written out: std::complex looks for NaN.
void filter(ConstValues light_values, ConstValues g_values, ConstValues want_values,
            const std::vector<float>& lambda, Values out_values) {
  const auto* light = reinterpret_cast<const float*>(light_values.data());
  const auto* g = reinterpret_cast<const float*>(g_values.data());
  const auto* want = reinterpret_cast<const float*>(want_values.data());
  auto* out = reinterpret_cast<float*>(out_values.data());
  for (std::size_t k = 0; k < lambda.size(); ++k) {
    const float gr = g[2 * k], gi = g[2 * k + 1], wr = want[2 * k], wi = want[2 * k + 1];
    const float scale = 1 / (gr * gr + gi * gi + lambda[k]);
    const float fr = (wr * gr + wi * gi + lambda[k]) * scale, fi = (wi * gr - wr * gi) * scale;
    const float lr = light[2 * k], li = light[2 * k + 1];
    out[2 * k] = lr * fr - li * fi;
    out[2 * k + 1] = lr * fi + li * fr;
  }
}

/// Nebulae have little light in fine structure: see guides.cpp.
std::vector<float> steep_lambda(float lambda, int kx, Size size) {
  std::vector<float> values(static_cast<std::size_t>(size.height));
  const float fx = static_cast<float>(kx) / static_cast<float>(size.width);
  for (int ky = 0; ky < size.height; ++ky) {
    const float fy = static_cast<float>(ky < (size.height + 1) / 2 ? ky : ky - size.height) /
                     static_cast<float>(size.height);
    const float f2 = fx * fx + fy * fy;
    values[static_cast<std::size_t>(ky)] =
        lambda * f2 * std::sqrt(f2) + static_cast<float>(lambda_floor);
  }
  return values;
}

}  // namespace

Image guide_planes_in(ConstView tile, Rect part, const TileControls& controls, int threads) {
  const Size size = tile.size();
  const WantedPsfs wanted = wanted_psfs(controls);
  const bool shared = controls.shared_psf();
  const int colours = controls.mono ? 1 : 3;
  std::vector<Image> kernels;
  const auto add = [&](Image kernel) {
    kernels.push_back(std::move(kernel));
    return static_cast<int>(kernels.size()) - 1;
  };
  const int nonstellar = add(wanted.nonstellar.kernel(psf_kernel_px)),
            stellar = add(wanted.stellar.kernel(psf_kernel_px));
  std::array<int, 3> measured{}, undone{};
  for (std::size_t c = 0; c < static_cast<std::size_t>(colours); ++c) {
    measured[c] = add(controls.measured[c].kernel(psf_kernel_px, controls.residual[c]));
    undone[c] = shared ? measured[c] : add(controls.nonstellar_kernel(c));
  }
  const ColumnSpectrum transfers = column_transfer(kernels, size, threads);
  const ColumnSpectrum spectra =
      column_fft(tile.channels() == colours ? tile : tile.channel(0), threads);

  const auto fill = [&](int plane, int kx, Values out) {
    const auto k = static_cast<std::size_t>(plane / colours),
               c = static_cast<std::size_t>(plane % colours);
    const bool is_stellar = k >= nonstellar_guide_count;
    const auto lambda = static_cast<float>(guide_lambda[k]);
    filter(spectra.column(static_cast<int>(c), kx),
           transfers.column(is_stellar ? measured[c] : undone[c], kx),
           transfers.column(is_stellar ? stellar : nonstellar, kx),
           is_stellar ? std::vector<float>(static_cast<std::size_t>(size.height), lambda)
                      : steep_lambda(lambda, kx, size),
           out);
  };
  return image_from_columns(guide_count * colours, size, part, fill, threads);
}

Image guide_planes(ConstView tile, const TileControls& controls, int threads) {
  return guide_planes_in(tile, {0, 0, tile.width(), tile.height()}, controls, threads);
}

}  // namespace limpid
