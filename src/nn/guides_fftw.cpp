#include "nn/guides_fftw.h"

#include <algorithm>
#include <cmath>

#include "core/complex_lanes.h"

namespace limpid {
namespace {

using Values = std::span<std::complex<float>>;
using ConstValues = std::span<const std::complex<float>>;

/// light (want conj(g) + lambda) / (|g|^2 + lambda). Lines are filled up, and so are the places
/// that lambda(k) is asked for: those from k on, in the order of parts.
template <typename Lambda>
void filter(ConstValues light_values, ConstValues g_values, ConstValues want_values,
            const Lambda& lambda_at, Values out) {
  for (std::size_t k = 0; k < out.size(); k += parts_lane_count) {
    const ComplexParts light = load_parts(light_values.data() + k),
                       g = load_parts(g_values.data() + k),
                       want = load_parts(want_values.data() + k);
    const FloatLanes lambda = lambda_at(k);
    const FloatLanes scale = 1 / (g.real * g.real + g.imaginary * g.imaginary + lambda);
    const FloatLanes real = (want.real * g.real + want.imaginary * g.imaginary + lambda) * scale,
                     imaginary = (want.imaginary * g.real - want.real * g.imaginary) * scale;
    store_parts(out.data() + k, {light.real * real - light.imaginary * imaginary,
                                 light.real * imaginary + light.imaginary * real});
  }
}

/// Squares of the frequencies of a transform, cycles per pixel, filled up with zeros.
std::vector<float> squared_frequencies(int length) {
  std::vector<float> squares(filled_line(length));
  for (int k = 0; k < length; ++k) {
    const float f =
        static_cast<float>(k < (length + 1) / 2 ? k : k - length) / static_cast<float>(length);
    squares[static_cast<std::size_t>(k)] = f * f;
  }
  return squares;
}

/// lambda f^3 + a floor: nebulae have little light in fine structure, see torch_guides.cpp.
class SteepLambda {
 public:
  explicit SteepLambda(Size size)
      : fx2_(squared_frequencies(size.width)),
        fy2_(squared_frequencies(size.height)),
        roots_(fy2_.size() * static_cast<std::size_t>(size.width / 2 + 1)) {
    for (int kx = 0; kx < size.width / 2 + 1; ++kx) {
      const float fx2 = fx2_[static_cast<std::size_t>(kx)];
      float* const column = &roots_[static_cast<std::size_t>(kx) * fy2_.size()];
      for (std::size_t ky = 0; ky < fy2_.size(); ++ky) column[ky] = std::sqrt(fx2 + fy2_[ky]);
    }
  }
  [[nodiscard]] FloatLanes operator()(float lambda, int kx, std::size_t ky) const {
    const auto x = static_cast<std::size_t>(kx);
    const FloatLanes f2 = fx2_[x] + load_floats(&fy2_[ky]),
                     f = load_floats(&roots_[x * fy2_.size() + ky]);
    return reordered(lambda * f2 * f + static_cast<float>(lambda_floor));
  }

 private:
  std::vector<float> fx2_, fy2_, roots_;
};

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
  const auto steep = recipe.stellar ? std::optional<SteepLambda>() : SteepLambda(size);
  const auto fill = [&](int plane, int kx, Values out) {
    const int c = plane % colours;
    const auto lambda =
        static_cast<float>(guide_lambda[static_cast<std::size_t>(first + plane / colours)]);
    const auto make = [&](const auto& lambda_at) {
      filter(spectra.column(c, kx), transfers.column(c, kx), transfers.column(colours, kx),
             lambda_at, out);
    };
    if (steep) {
      make([&](std::size_t ky) { return (*steep)(lambda, kx, ky); });
    } else {
      make([lambda](std::size_t) { return lambda + FloatLanes{}; });
    }
  };
  return image_from_columns(count * colours, size, part, fill,
                            {.threads = threads, .sources = colours});
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

TilePlanes::TilePlanes(ConstView light, int margin, ConstView saturated,
                       const TileControls& controls, int threads, GuideMemory* memory)
    : guides_(guides_in(light,
                        {margin, margin, light.width() - 2 * margin, light.height() - 2 * margin},
                        controls, threads, memory)) {
  const auto add = [this](ConstView view, int channel, int from) {
    planes_.push_back({view.row(channel, from).data() + from, view.row_stride()});
  };
  for (int c = 0; c < 3; ++c) add(light, c, margin);
  for (const auto& some : {guides_.nonstellar, guides_.stellar}) {
    const int count = some->channels() / (controls.mono ? 1 : 3);
    for (int k = 0; k < count; ++k) {
      for (int c = 0; c < 3; ++c) add(some->view(), controls.mono ? k : 3 * k + c, 0);
    }
  }
  add(saturated, 0, 0);
}

}  // namespace limpid
