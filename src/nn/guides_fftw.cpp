#include "nn/guides_fftw.h"

#include <algorithm>
#include <cmath>

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

/// Squares of the frequencies of a transform, cycles per pixel.
std::vector<float> squared_frequencies(int length) {
  std::vector<float> squares;
  for (int k = 0; k < length; ++k) {
    const float f =
        static_cast<float>(k < (length + 1) / 2 ? k : k - length) / static_cast<float>(length);
    squares.push_back(f * f);
  }
  return squares;
}

/// Nebulae have little light in fine structure: see guides.cpp.
std::vector<float> steep_lambda(float lambda, float fx2, const std::vector<float>& fy2) {
  std::vector<float> values(fy2.size());
  for (std::size_t ky = 0; ky < values.size(); ++ky) {
    const float f2 = fx2 + fy2[ky];
    values[ky] = lambda * f2 * std::sqrt(f2) + static_cast<float>(lambda_floor);
  }
  return values;
}

GuideRecipe recipe_of(const TileControls& controls, bool stellar) {
  const WantedPsfs wanted = wanted_psfs(controls);
  GuideRecipe recipe{.stellar = stellar,
                     .mono = controls.mono,
                     .wanted = stellar ? wanted.stellar : wanted.nonstellar,
                     .undone = stellar ? controls.measured : controls.nonstellar,
                     .residual = controls.residual};
  for (std::size_t c = 0; c < 3 && !stellar; ++c) {
    const auto own = controls.undone_residual(c);
    recipe.residual[c].assign(own.begin(), own.end());
  }
  return recipe;
}

Image planes_of(const ColumnSpectrum& spectra, Rect part, const GuideRecipe& recipe, int threads) {
  const Size size = spectra.size();
  const int colours = recipe.mono ? 1 : 3;
  std::vector<Image> kernels;
  for (std::size_t c = 0; c < static_cast<std::size_t>(colours); ++c)
    kernels.push_back(recipe.undone[c].kernel(psf_kernel_px, recipe.residual[c]));
  kernels.push_back(recipe.wanted.kernel(psf_kernel_px));
  const ColumnSpectrum transfers = column_transfer(kernels, size, threads);
  const int first = recipe.stellar ? nonstellar_guide_count : 0,
            count = recipe.stellar ? guide_count - nonstellar_guide_count : nonstellar_guide_count;
  const auto fx2 = squared_frequencies(size.width), fy2 = squared_frequencies(size.height);
  const auto fill = [&](int plane, int kx, Values out) {
    const int c = plane % colours;
    const auto lambda =
        static_cast<float>(guide_lambda[static_cast<std::size_t>(first + plane / colours)]);
    filter(spectra.column(c, kx), transfers.column(c, kx), transfers.column(colours, kx),
           recipe.stellar ? std::vector<float>(fy2.size(), lambda)
                          : steep_lambda(lambda, fx2[static_cast<std::size_t>(kx)], fy2),
           out);
  };
  return image_from_columns(count * colours, size, part, fill, threads);
}

std::shared_ptr<const Image> remembered(GuideMemory& memory, Rect part, GuideRecipe recipe,
                                        int threads) {
  auto& list = recipe.stellar ? memory.stellar : memory.nonstellar;
  const auto known = std::ranges::find(list, recipe, &GuideMemory::Made::recipe);
  if (known != list.end()) {
    std::rotate(list.begin(), known, known + 1);
  } else {
    auto planes = std::make_shared<const Image>(planes_of(*memory.spectra, part, recipe, threads));
    if (list.size() >= memory.most) list.pop_back();
    list.push_front({std::move(recipe), std::move(planes)});
  }
  return list.front().planes;
}

}  // namespace

Guides guides_in(ConstView tile, Rect part, const TileControls& controls, int threads,
                 GuideMemory* memory) {
  GuideMemory own;
  if (memory == nullptr) memory = &own;
  if (!memory->spectra)
    memory->spectra = column_fft(controls.mono ? tile.channel(0) : tile, threads);
  return {remembered(*memory, part, recipe_of(controls, false), threads),
          remembered(*memory, part, recipe_of(controls, true), threads)};
}

}  // namespace limpid
