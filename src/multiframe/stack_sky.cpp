#include "multiframe/stack_sky.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <numbers>
#include <span>

#include "core/box_mean.h"
#include "core/fft.h"
#include "core/parallel.h"

namespace limpid::multiframe {
namespace {

constexpr int core_px = 384;  ///< side of what is worked on at once
/// What is fitted lies as far around it, in frame pixels: a star's ring and the noise's own scale.
constexpr int surroundings_px = 32;
/// Light in a pixel that is a star's and not noise, in sigmas of the result; from twice that on all
/// of it.
constexpr float lit_sigmas = 3;
/// How often the light is corrected. The sky around the brightest stars of the real sets of
/// docs/mfdeconv.md is within half a sigma of its place after 6, and no nearer after 12.
constexpr int corrections = 8;
/// What a PSF may be wrong by, of the light at a place, in what is smooth over 1.5 frame pixels.
constexpr float misfit = 0.5F, smooth_px = 1.5F;
/// Sky between these levels, in sigmas, is partly replaced: rings are cut off half a sigma under
/// it.
constexpr float dug_sigmas = -0.5F, kept_sigmas = 0.25F;
/// Stars dig where they cast light in the stack: in full from the second of these on, in sigmas.
constexpr float least_light_sigmas = 0.2F, light_sigmas = 1;
/// More than this share of its light nothing pays: what shows so little is hardly a star.
constexpr float most_paid = 0.2F;

float to_share(float value) { return std::clamp(value, 0.0F, 1.0F); }

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void add(double factor, const Image& image, std::span<float> sum) {
  for (std::size_t i = 0; i < sum.size(); ++i)
    sum[i] += static_cast<float>(factor * image.pixels()[i]);
}

/// Sinc of a sum over `factor` pixels about their middle.
float block_transfer(double frequency, int factor) {
  const double angle = std::numbers::pi * frequency;
  if (factor == 1 || frequency == 0) return 1;
  return static_cast<float>(std::sin(factor * angle) / (factor * std::sin(angle)));
}

/// A square with its surroundings, on which lie the estimate, the stack and what is made of them.
/// Transforms are as large as the light reaches, so that what they wrap stays outside.
class Block {
 public:
  Block(const Iterated& iterated, int channel, Rect core)
      : it_(iterated),
        channel_(channel),
        core_(core),
        fitted_margin_(fitted_margin_of(iterated)),
        margin_(fitted_margin_ + it_.reach),
        size_(transform_of(iterated, core.size())),
        lit_(1, size_),
        light_(1, size_),
        residual_(1, size_),
        transfer_(1, size_) {
    const auto& kernels = *it_.kernels;
    const std::size_t channels = kernels.size() / static_cast<std::size_t>(it_.grid * it_.grid);
    const auto cell = static_cast<std::size_t>(cell_of(core));
    transfer_ = transfer({&kernels[cell * channels + static_cast<std::size_t>(channel)], 1}, size_);
    for_spectrum(transfer_, [&](std::complex<float>& value, double fx, double fy) {
      value *= block_transfer(fx, it_.factor) * block_transfer(fy, it_.factor);
    });
    least_lit_ = lit_sigmas * it_.sigma * noise_gain();
    for (int y = 0; y < core_.height + 2 * margin_; ++y) {
      for (int x = 0; x < core_.width + 2 * margin_; ++x) {
        const float value = estimate_at(y, x);
        lit_.view()(0, y, x) = value * to_share((value - least_lit_) / least_lit_);
      }
    }
  }

  /// Memory that the work on a core of that size takes.
  static std::size_t bytes(const Iterated& iterated, Size core) {
    constexpr std::size_t images = corrections + 8;
    return images * sizeof(float) * transform_of(iterated, core).pixels();
  }
  /// Whether there is light that digs.
  [[nodiscard]] bool lit() const {
    return std::ranges::any_of(lit_.pixels(), [](float value) { return value > 0; });
  }
  /// What replaces the estimate, less that estimate.
  Image change(bool pays) {
    find_residual();
    fit_light();
    temper();
    give_texture();
    Image change = replacement();
    if (pays) pay_for(change);
    return extract_mirrored(change.view(), {margin_, margin_, core_.width, core_.height});
  }

 private:
  static int fitted_margin_of(const Iterated& iterated) {
    return std::min(iterated.reach, surroundings_px * iterated.factor);
  }
  static Size transform_of(const Iterated& iterated, Size core) {
    const int around = 2 * (fitted_margin_of(iterated) + iterated.reach);
    return {good_fft_length(core.width + around), good_fft_length(core.height + around)};
  }
  [[nodiscard]] int cell_of(Rect core) const {
    const auto along = [&](int middle, int length) {
      return std::min(middle * it_.grid / length, it_.grid - 1);
    };
    return along(core.y + core.height / 2, it_.stack.height()) * it_.grid +
           along(core.x + core.width / 2, it_.stack.width());
  }

  /// Calls `work` with each value and its frequencies in cycles per pixel.
  template <typename Work>
  void for_spectrum(Spectrum& spectrum, const Work& work) const {
    for (int y = 0; y < size_.height; ++y) {
      const int ky = 2 * y > size_.height ? y - size_.height : y;
      const auto row = spectrum.row(0, y);
      for (std::size_t x = 0; x < row.size(); ++x)
        work(row[x], static_cast<double>(x) / size_.width, static_cast<double>(ky) / size_.height);
    }
  }

  /// Convolved by the PSF, or correlated with it.
  [[nodiscard]] Image blurred(const Image& image, bool mirrored) const {
    Spectrum spectrum = fft(image.view());
    for (int y = 0; y < size_.height; ++y) {
      const auto values = spectrum.row(0, y);
      const auto kernel = transfer_.row(0, y);
      for (std::size_t x = 0; x < values.size(); ++x)
        values[x] *= mirrored ? std::conj(kernel[x]) : kernel[x];
    }
    return inverse_fft(std::move(spectrum));
  }

  /// Over the level, nothing where the canvas ends.
  [[nodiscard]] float estimate_at(int y, int x) const {
    const int v = core_.y - margin_ + y + it_.reach, u = core_.x - margin_ + x + it_.reach;
    const bool inside = v >= 0 && u >= 0 && v < it_.estimate.height() && u < it_.estimate.width();
    return inside ? it_.estimate(channel_, v, u) - it_.level : 0;
  }

  void find_residual() {
    light_ = blurred(lit_, false);
    for (float& value : light_.pixels()) value = std::max(value, 0.0F);
    known_.assign(size_.pixels(), 0);
    for (int y = 0; y < size_.height; ++y) {
      for (int x = 0; x < size_.width; ++x) {
        const int v = core_.y - margin_ + y, u = core_.x - margin_ + x;
        if (!fitted(y, x) || v < 0 || u < 0 || v >= it_.stack.height() || u >= it_.stack.width())
          continue;
        const float recorded = it_.stack(channel_, v, u);
        if (std::isnan(recorded)) continue;
        known_[index(y, x)] = 1;
        residual_.view()(0, y, x) = recorded - it_.level - light_.view()(0, y, x);
      }
    }
  }
  [[nodiscard]] bool fitted(int y, int x) const {
    return y >= it_.reach && x >= it_.reach && y < core_.height + 2 * fitted_margin_ + it_.reach &&
           x < core_.width + 2 * fitted_margin_ + it_.reach;
  }
  [[nodiscard]] std::size_t index(int y, int x) const {
    return static_cast<std::size_t>(y) * static_cast<std::size_t>(size_.width) +
           static_cast<std::size_t>(x);
  }

  /// What lit pixels may have more or less of, in proportion to their light, is taken from the
  /// residual. Stars that are not yet points, and the PSF's errors, are most of it. Least squares
  /// in the space of conjugate gradients, by orthogonal directions (ORTHOMIN: Vinsome 1976, doi
  /// 10.2118/5729-MS), since gradients lose theirs to single precision after a few steps.
  void fit_light() {
    const auto residual = residual_.pixels();
    Image all_steps(1, size_);
    const auto steps = all_steps.pixels();
    for (int y = 0; y < size_.height; ++y) {
      for (int x = 0; x < size_.width; ++x) {
        const float over = std::max(estimate_at(y, x) - least_lit_, 0.0F);
        if (fitted(y, x))
          steps[index(y, x)] = over * over / (it_.sigma * (light_.view()(0, y, x) + it_.sigma));
      }
    }
    std::vector<Image> directions;
    for (int k = 0; k < corrections; ++k) {
      Image light = blurred(residual_, true);
      for (std::size_t i = 0; i < steps.size(); ++i) light.pixels()[i] *= steps[i];
      light = blurred(light, false);
      const auto values = light.pixels();
      for (std::size_t i = 0; i < steps.size(); ++i) values[i] *= known_[i];
      for (const Image& other : directions) add(-dot(values, other.pixels()), other, values);
      const double length = std::sqrt(dot(values, values));
      if (!(length > 0)) return;
      for (float& value : values) value = static_cast<float>(value / length);
      add(-dot(residual, values), light, residual);
      directions.push_back(std::move(light));
    }
  }

  [[nodiscard]] Image smoothed(const Image& image) const {
    Spectrum spectrum = fft(image.view());
    const double radians = 2 * std::numbers::pi * smooth_px * it_.factor;
    for_spectrum(spectrum, [&](std::complex<float>& value, double fx, double fy) {
      value *= static_cast<float>(std::exp(-0.5 * radians * radians * (fx * fx + fy * fy)));
    });
    return inverse_fft(std::move(spectrum));
  }

  /// Where light is strong, what is smooth in the residual is rather the PSF's error than the sky:
  /// Wiener's weight. The rest is no noisier than the sky, whatever made it so: photons, the PSF's
  /// errors, values that the stack left out.
  void temper() {
    const Image smooth = smoothed(residual_);
    Image squares(1, size_);
    const auto rest = residual_.pixels();
    for (std::size_t i = 0; i < rest.size(); ++i) {
      rest[i] = (rest[i] - smooth.pixels()[i]) / it_.sigma;
      squares.pixels()[i] = rest[i] * rest[i];
    }
    squares = smoothed(squares);
    for (std::size_t i = 0; i < rest.size(); ++i) {
      const float light = light_.pixels()[i] / it_.sigma;
      rest[i] = smooth.pixels()[i] / std::hypot(1.0F, misfit * light) +
                it_.sigma * rest[i] / std::sqrt(std::max(squares.pixels()[i], 1.0F));
    }
  }

  void give_texture() {
    Spectrum spectrum = fft(residual_.view());
    for (int y = 0; y < size_.height; ++y) {
      const auto values = spectrum.row(0, y);
      const auto kernel = transfer_.row(0, y);
      for (std::size_t x = 0; x < values.size(); ++x) values[x] *= texture(kernel[x]);
    }
    residual_ = inverse_fft(std::move(spectrum));
  }
  /// What iterations do to the sky: of x + a K^T (y - K x), begun with y, k iterations make
  /// q Y + (1 - q) / |K|^2 conj(K) Y with q = (1 - a |K|^2)^k, frequency by frequency.
  [[nodiscard]] std::complex<float> texture(std::complex<float> kernel) const {
    const float power = std::norm(kernel), count = static_cast<float>(it_.iterations);
    const float left = std::pow(1 - it_.relax * power, count);
    // the limit of the geometric series
    return left + (power > 1e-6F ? (1 - left) / power : it_.relax * count) * std::conj(kernel);
  }
  /// How much more noise than the stack the result has.
  [[nodiscard]] float noise_gain() const {
    double sum = 0;
    for (int y = 0; y < size_.height; ++y) {
      for (int x = 0; x < transfer_.columns(); ++x) {
        const bool has_mirror = x > 0 && 2 * x < size_.width;
        sum += (has_mirror ? 2 : 1) *
               std::norm(texture(transfer_.row(0, y)[static_cast<std::size_t>(x)]));
      }
    }
    return static_cast<float>(std::sqrt(sum / static_cast<double>(size_.pixels())));
  }

  [[nodiscard]] Image replacement() const {
    // the mean of a few pixels tells a ring from noise; bright ones count as no more than a sigma
    const int reach = it_.factor;
    Image low(1, {size_.width + 4 * reach, size_.height + 4 * reach});
    for (int y = 0; y < low.height(); ++y) {
      for (int x = 0; x < low.width(); ++x)
        low.view()(0, y, x) = std::min(estimate_at(y - 2 * reach, x - 2 * reach) / it_.sigma, 1.0F);
    }
    Image share = mean_of_squares(low, reach);
    for (float& value : share.pixels())
      value = to_share((kept_sigmas - value) / (kept_sigmas - dug_sigmas));
    share = mean_of_squares(share, reach);
    for (int y = 0; y < size_.height; ++y) {
      for (int x = 0; x < size_.width; ++x) {
        const float light = light_.view()(0, y, x) / it_.sigma;
        share.view()(0, y, x) *=
            static_cast<float>(known_[index(y, x)]) *
            to_share((light - least_light_sigmas) / (light_sigmas - least_light_sigmas)) *
            (residual_.view()(0, y, x) - estimate_at(y, x));
      }
    }
    return share;
  }

  /// What a place has won is taken from the stars in proportion to the light that they cast there,
  /// so that the sum stays.
  void pay_for(Image& change) const {
    Image won = change.clone();
    for (std::size_t i = 0; i < known_.size(); ++i)
      won.pixels()[i] /= std::max(light_.pixels()[i], least_light_sigmas * it_.sigma);
    won = blurred(won, true);
    for (std::size_t i = 0; i < known_.size(); ++i)
      change.pixels()[i] -= lit_.pixels()[i] * std::clamp(won.pixels()[i], -most_paid, most_paid);
  }

  /// Means of squares that reach so far from their middle; smaller by that on each side.
  static Image mean_of_squares(const Image& image, int reach) {
    return copy(box_mean(image.view(), reach)
                    .view()
                    .crop({reach, reach, image.width() - 2 * reach, image.height() - 2 * reach}));
  }

  const Iterated& it_;
  int channel_;
  Rect core_;
  int fitted_margin_, margin_;
  Size size_;
  float least_lit_ = 0;
  Image lit_;       ///< what stars have over the sky in the estimate
  Image light_;     ///< the same in the stack
  Image residual_;  ///< what it leaves of the stack, and what is made of that
  Spectrum transfer_;
  std::vector<std::uint8_t> known_;
};

}  // namespace

Image with_sky_of_stack(const Iterated& iterated, bool pays, int threads, std::size_t memory_bytes,
                        const Hosts& hosts) {
  const Size size = iterated.stack.size();
  const ConstView inner =
      iterated.estimate.crop({iterated.reach, iterated.reach, size.width, size.height});
  Image result(inner.channels(), size);
  const int columns = (size.width + core_px - 1) / core_px;
  const int rows = (size.height + core_px - 1) / core_px;
  const std::size_t enough_for =
      memory_bytes /
      Block::bytes(iterated, {std::min(core_px, size.width), std::min(core_px, size.height)});
  threads = static_cast<int>(
      std::clamp<std::size_t>(enough_for, 1, static_cast<std::size_t>(thread_count(threads))));
  parallel_for(columns * rows * result.channels(), threads, [&](int i) {
    if (!hosts.owns(i)) return;
    const int channel = i / (columns * rows), place = i % (columns * rows);
    const Rect core =
        intersect({place % columns * core_px, place / columns * core_px, core_px, core_px},
                  {0, 0, size.width, size.height});
    const auto row_of = [&](int y) { return result.view().crop(core).row(channel, y); };
    for (int y = 0; y < core.height; ++y)
      std::ranges::copy(inner.crop(core).row(channel, y), row_of(y).begin());
    Block block(iterated, channel, core);
    if (!block.lit()) return;
    const Image change = block.change(pays);
    for (int y = 0; y < core.height; ++y) {
      const auto from = change.view().row(0, y);
      const auto to = row_of(y);
      for (std::size_t x = 0; x < to.size(); ++x) to[x] += from[x];
    }
  });
  // what others work on is zero here
  if (hosts.count > 1) hosts.sum(result.pixels());
  return result;
}

}  // namespace limpid::multiframe
