#include "core/fft.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

#include <limpid/error.h>

#include "core/fft_plans.h"
#include "core/parallel.h"

namespace limpid {
namespace {

/// Both transforms of one size, in place: a row of `width` floats lies in the memory of its
/// width / 2 + 1 complex values.
const Plans& plans_for(Size size, std::complex<float>* memory) {
  static PlanStore<std::pair<int, int>> store;
  return store.find({size.height, size.width}, [&] {
    fftwf_complex* values = as_fftw(memory);
    auto* samples = reinterpret_cast<float*>(memory);
    const int stride = static_cast<int>(filled_line(size.width / 2 + 1));
    const std::array<int, 2> lengths{size.height, size.width}, complex_rows{size.height, stride},
        real_rows{size.height, 2 * stride};
    return Plans{Plan(fftwf_plan_many_dft_r2c(2, lengths.data(), 1, samples, real_rows.data(), 1, 0,
                                              values, complex_rows.data(), 1, 0, FFTW_ESTIMATE)),
                 Plan(fftwf_plan_many_dft_c2r(2, lengths.data(), 1, values, complex_rows.data(), 1,
                                              0, samples, real_rows.data(), 1, 0, FFTW_ESTIMATE))};
  });
}

}  // namespace

std::mutex& planner_lock() {
  static std::mutex lock;
  return lock;
}

SpectrumMemory allocate_spectrum(std::size_t count, Size size) {
  // a spectrum that is read across takes few large pages, and neighbours in memory share them
  constexpr std::size_t large = std::size_t{1} << 20;
  try {
    return allocate_aligned<std::complex<float>>(count, large);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::exhausted, "no memory for the Fourier transform of " +
                                          std::to_string(size.width) + " x " +
                                          std::to_string(size.height) + " pixels");
  }
}

Spectrum::Spectrum(int channels, Size size)
    : channels_(channels),
      size_(size),
      values_(allocate_spectrum(static_cast<std::size_t>(channels) * plane_size(), size)) {
  // so that products of whole planes never meet a NaN there
  const auto own = static_cast<std::size_t>(columns());
  const std::size_t rows =
      static_cast<std::size_t>(channels) * static_cast<std::size_t>(size.height);
  for (std::size_t y = 0; y < rows; ++y)
    std::fill(values_.get() + y * stride() + own, values_.get() + (y + 1) * stride(),
              std::complex<float>());
}

Spectrum fft(ConstView image, int threads) {
  Spectrum spectrum(image.channels(), image.size());
  if (image.empty()) return spectrum;
  const Plans& plans = plans_for(image.size(), spectrum.plane(0).data());
  parallel_for(image.channels(), threads, [&](int channel) {
    for (int y = 0; y < image.height(); ++y) {
      std::ranges::copy(image.row(channel, y),
                        reinterpret_cast<float*>(spectrum.row(channel, y).data()));
    }
    std::complex<float>* values = spectrum.plane(channel).data();
    fftwf_execute_dft_r2c(plans.forward.get(), reinterpret_cast<float*>(values), as_fftw(values));
  });
  return spectrum;
}

Image inverse_fft(Spectrum spectrum, int threads) {
  Image image = Image::unset(spectrum.channels(), spectrum.size());
  if (image.empty()) return image;
  const Plans& plans = plans_for(image.size(), spectrum.plane(0).data());
  const float scale = 1.0F / static_cast<float>(image.size().pixels());
  parallel_for(image.channels(), threads, [&](int channel) {
    std::complex<float>* values = spectrum.plane(channel).data();
    fftwf_execute_dft_c2r(plans.inverse.get(), as_fftw(values), reinterpret_cast<float*>(values));
    for (int y = 0; y < image.height(); ++y) {
      const auto* from = reinterpret_cast<const float*>(spectrum.row(channel, y).data());
      const auto to = image.view().row(channel, y);
      std::transform(from, from + image.width(), to.begin(),
                     [scale](float value) { return value * scale; });
    }
  });
  return image;
}

void fft_in_place(Spectrum& spectrum) {
  for (int channel = 0; channel < spectrum.channels(); ++channel) {
    std::complex<float>* values = spectrum.plane(channel).data();
    fftwf_execute_dft_r2c(plans_for(spectrum.size(), values).forward.get(),
                          reinterpret_cast<float*>(values), as_fftw(values));
  }
}

void inverse_fft_in_place(Spectrum& spectrum) {
  for (int channel = 0; channel < spectrum.channels(); ++channel) {
    std::complex<float>* values = spectrum.plane(channel).data();
    fftwf_execute_dft_c2r(plans_for(spectrum.size(), values).inverse.get(), as_fftw(values),
                          reinterpret_cast<float*>(values));
  }
}

Spectrum transfer(std::span<const Image> kernels, Size size, int threads) {
  Image fields(static_cast<int>(kernels.size()), size);
  for (int k = 0; k < fields.channels(); ++k) {
    const ConstView kernel = kernels[static_cast<std::size_t>(k)].view();
    const int side = kernel.width();
    for (int y = 0; y < side; ++y) {
      const auto to = fields.view().row(k, (y - side / 2 + size.height) % size.height);
      const auto from = kernel.row(0, y);
      for (int x = 0; x < side; ++x) {
        to[static_cast<std::size_t>((x - side / 2 + size.width) % size.width)] =
            from[static_cast<std::size_t>(x)];
      }
    }
  }
  return fft(fields.view(), threads);
}

int good_fft_length(int length) {
  for (int candidate = std::max(2, length + length % 2);; candidate += 2) {
    int rest = candidate;
    for (const int factor : {2, 3, 5, 7}) {
      while (rest % factor == 0) rest /= factor;
    }
    if (rest == 1) return candidate;
  }
}

}  // namespace limpid
