#include "restore/band_gains.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <vector>

#include "core/box_mean.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

using Complex = std::complex<float>;

/// Transfers at which bands have their middle; shares fall to 0 at those beside it, linear in the
/// logarithm.
constexpr std::array<float, 4> middles{0.06F, 0.16F, 0.4F, 0.8F};
constexpr int bands = static_cast<int>(middles.size());
constexpr float most_gain = 2;
// Moments are taken of every other pixel, summed over blocks, and averaged twice over squares.
constexpr int block_px = 4, half_window_blocks = 3;
constexpr int reach_px = 28;  // from a pixel to the farthest that has a say in its gain

/// Where each frequency lies between the middles of the bands.
class Bands {
 public:
  Bands(const ColumnSpectrum& transfer, int channel)
      : height_(static_cast<std::size_t>(transfer.size().height)),
        places_(height_ * static_cast<std::size_t>(transfer.columns())) {
    std::array<float, middles.size()> logarithms{};
    std::ranges::transform(middles, logarithms.begin(), [](float m) { return 2 * std::log(m); });
    for (int kx = 0; kx < transfer.columns(); ++kx) {
      const auto column = transfer.column(channel, kx);
      float* const places = &places_[static_cast<std::size_t>(kx) * height_];
      for (std::size_t ky = 0; ky < height_; ++ky) {
        const float power = std::log(std::max(1e-12F, std::norm(column[ky])));
        std::size_t above = 1;
        while (above + 1 < middles.size() && power > logarithms[above]) ++above;
        const float from = logarithms[above - 1], to = logarithms[above];
        places[ky] =
            static_cast<float>(above - 1) + std::clamp((power - from) / (to - from), 0.0F, 1.0F);
      }
    }
  }
  /// 0 in the middle of the first band and below it, 1 in that of the second, and so on.
  [[nodiscard]] std::span<const float> places(int kx) const {
    return {&places_[static_cast<std::size_t>(kx) * height_], height_};
  }

 private:
  std::size_t height_;
  std::vector<float> places_;
};

/// What is compared in each band, at every other pixel of every other row, and the power of noise
/// in the first, of white noise of unit variance.
struct Moments {
  ColumnSpectrum spectra;  ///< wanted changes times |T|^2 of all bands, then the made ones
  std::array<double, middles.size()> noise_power{};
};

/// Every other pixel of every other row: frequencies that lie half a spectrum apart fall together,
/// those of the half that is not kept as mirrored conjugates.
Moments moments_of(const BandGainInput& in, const Bands& shares) {
  const Size size = in.transfer.size(), half{size.width / 2, size.height / 2};
  const auto rows = static_cast<std::size_t>(size.height), half_rows = rows / 2;
  Moments m{.spectra = ColumnSpectrum(2 * bands, half)};
  for (int plane = 0; plane < 2 * bands; ++plane) m.spectra.plane(plane).clear();
  // column kx of all planes
  using Columns = std::array<std::span<Complex>, 2 * middles.size()>;
  const auto columns_at = [&m](int kx) {
    Columns columns;
    for (int plane = 0; plane < 2 * bands; ++plane)
      columns[static_cast<std::size_t>(plane)] = m.spectra.column(plane, kx);
    return columns;
  };
  for (int kx = 0; kx < in.transfer.columns(); ++kx) {
    const double twice = kx == 0 || 2 * kx == size.width ? 1 : 2;
    const int mirrored_kx = size.width / 2 - kx;
    const bool has_own = kx < m.spectra.columns(), has_mirrored = mirrored_kx < m.spectra.columns();
    const Columns own = has_own ? columns_at(kx) : Columns(),
                  mirrored = has_mirrored ? columns_at(mirrored_kx) : Columns();
    const auto transfer = in.transfer.column(in.channel, kx),
               recorded = in.recorded.column(in.channel, kx),
               changed = in.changed.column(in.channel, kx);
    const auto places = shares.places(kx);
    for (std::size_t ky = 0; ky < rows; ++ky) {
      const std::size_t band = std::min(static_cast<std::size_t>(places[ky]), middles.size() - 2);
      const float upper = places[ky] - static_cast<float>(band), power = std::norm(transfer[ky]);
      const Complex filter = std::conj(transfer[ky]) - power;  // T* (1 - T)
      const Complex wanted = filter * recorded[ky], made = power * changed[ky];
      for (std::size_t i = 0; i < 2; ++i) {
        const float share = i == 0 ? 1 - upper : upper;
        m.noise_power[band + i] += twice * static_cast<double>(share * share * std::norm(filter));
        const Complex w = 0.25F * share * wanted, d = 0.25F * share * made;
        if (has_own) {
          const std::size_t to = ky < half_rows ? ky : ky - half_rows;
          own[band + i][to] += w;
          own[middles.size() + band + i][to] += d;
        }
        if (has_mirrored) {
          const std::size_t to = (rows - ky) % half_rows;
          mirrored[band + i][to] += std::conj(w);
          mirrored[middles.size() + band + i][to] += std::conj(d);
        }
      }
    }
  }
  for (double& power : m.noise_power) power /= static_cast<double>(size.pixels());
  return m;
}

/// Means over windows of what stands at the sampled pixels, (1, h, w); in blocks.
Image in_windows(const Image& sampled) {
  Image sums(1, {sampled.width() / 2, sampled.height() / 2});
  for (int y = 0; y < sums.height(); ++y) {
    const auto above = sampled.view().row(0, 2 * y), below = sampled.view().row(0, 2 * y + 1);
    const auto out = sums.view().row(0, y);
    for (std::size_t x = 0; x < out.size(); ++x)
      out[x] = (above[2 * x] + above[2 * x + 1]) + (below[2 * x] + below[2 * x + 1]);
  }
  return box_mean(box_mean(sums.view(), half_window_blocks).view(), half_window_blocks);
}

/// Reads maps of blocks, between whose middles values are linear, row by row of what lies inside
/// the margin.
class BlockReader {
 public:
  BlockReader(Size blocks, Size inner, int margin_px)
      : blocks_(blocks),
        margin_px_(margin_px),
        line_(static_cast<std::size_t>(blocks.width)) {
    for (int x = 0; x < inner.width; ++x) columns_.push_back(place(x, blocks.width));
  }
  void row(const Image& map, int y, std::span<float> out) {
    const auto [top, down] = place(y, blocks_.height);
    const auto above = map.view().row(0, top), below = map.view().row(0, top + 1);
    for (std::size_t i = 0; i < line_.size(); ++i)
      line_[i] = above[i] + down * (below[i] - above[i]);
    for (std::size_t x = 0; x < out.size(); ++x) {
      const float* at = &line_[static_cast<std::size_t>(columns_[x].first)];
      out[x] = at[0] + columns_[x].part * (at[1] - at[0]);
    }
  }

 private:
  struct Place {
    int first;
    float part;  ///< of the way to the next block
  };
  [[nodiscard]] Place place(int px, int count) const {
    const float at = (static_cast<float>(px + margin_px_) - (block_px - 2) / 2.0F) /
                     static_cast<float>(block_px);
    const int first = std::clamp(static_cast<int>(at), 0, count - 2);
    return {first, std::clamp(at - static_cast<float>(first), 0.0F, 1.0F)};
  }
  Size blocks_;
  int margin_px_;
  std::vector<float> line_;
  std::vector<Place> columns_;
};

/// Noise of a band over that of the frequencies of stars, which the variance is about. Where
/// neighbouring pixels share their noise there is no more of it at high frequencies than their
/// scatter tells. A fifth on top: noise that is taken for light costs more than the reverse.
float noise_share(int band, float correlation) {
  constexpr std::array<float, middles.size()> powers{-2, -2, -1, 0};
  constexpr float caution = 1.2F;
  return caution * std::pow(correlation, powers[static_cast<std::size_t>(band)]);
}

/// The gain of a change D from what Wiener's filter without its noise term would do, E: means of
/// E^2, E D, D^2, and that of E^2 which noise makes. Where little is known of the light, a network
/// may know more than its power tells: it is held back only as far as it follows the noise.
float gain_of(float wanted, float both, float made, float of_noise) {
  constexpr float known_from = 0.5F, known_to = 0.9F, follows_from = 0.25F, follows_to = 0.6F;
  if (wanted <= 0 || made <= 0) return 1;
  const float light = std::max(0.0F, 1 - of_noise / wanted);
  const float gain = std::clamp(light * both / made, 0.0F, most_gain);
  if (gain >= 1) return gain;
  const float of_made = both * both / (wanted * made) * (1 - light);  // share that noise makes
  const float certain = std::max(1 - falling(light, known_from, known_to),
                                 1 - falling(of_made, follows_from, follows_to));
  return 1 + (gain - 1) * certain;
}

/// One map of gains per band, in blocks, for `inner` and `reach_px` around it.
std::vector<Image> gains(const BandGainInput& in, const Bands& shares, Rect inner) {
  const Rect wide = grown(inner, reach_px);
  const Rect sampled{wide.x / 2, wide.y / 2, wide.width / 2, wide.height / 2};
  const Moments moments = moments_of(in, shares);
  const Image planes = image_from_columns(
      2 * bands, moments.spectra.size(), sampled, [&](int plane, int kx, std::span<Complex> out) {
        std::ranges::copy(moments.spectra.column(plane, kx), out.begin());
      });
  Image counts(1, sampled.size()), noise(1, sampled.size());
  for_pixels({0, 0, sampled.width, sampled.height}, [&](int x, int y) {
    const int at_x = 2 * (sampled.x + x), at_y = 2 * (sampled.y + y);
    if (in.hidden(0, at_y, at_x) != 0) return;
    counts.view()(0, y, x) = 1;
    noise.view()(0, y, x) = in.variance(in.shown(0, at_y, at_x));
  });
  const Image variance = in_windows(noise);
  std::vector<Image> maps;
  for (int band = 0; band < bands; ++band) {
    const auto mean_product = [&](int a, int b) {
      Image product(1, sampled.size());
      for (int y = 0; y < sampled.height; ++y) {
        const auto first = planes.view().row(a, y), second = planes.view().row(b, y);
        const auto count = counts.view().row(0, y);
        const auto out = product.view().row(0, y);
        for (std::size_t x = 0; x < out.size(); ++x) out[x] = count[x] * first[x] * second[x];
      }
      return in_windows(product);
    };
    const Image wanted = mean_product(band, band), both = mean_product(band, bands + band),
                made = mean_product(bands + band, bands + band);
    const float of_noise = noise_share(band, in.correlation) *
                           static_cast<float>(moments.noise_power[static_cast<std::size_t>(band)]);
    Image map(1, variance.size());
    for (std::size_t i = 0; i < map.pixels().size(); ++i) {
      map.pixels()[i] = gain_of(wanted.pixels()[i], both.pixels()[i], made.pixels()[i],
                                of_noise * variance.pixels()[i]);
    }
    maps.push_back(std::move(map));
  }
  return maps;
}

}  // namespace

Image band_gains(const BandGainInput& in, Rect inner) {
  const Bands shares(in.transfer, in.channel);
  const std::vector<Image> maps = gains(in, shares, inner);
  // of all bands but the last, which is what the others leave
  const Image parts = image_from_columns(
      bands - 1, in.transfer.size(), inner, [&](int band, int kx, std::span<Complex> out) {
        const auto from = in.changed.column(in.channel, kx);
        const auto places = shares.places(kx);
        const auto middle = static_cast<float>(band);
        for (std::size_t ky = 0; ky < out.size(); ++ky)
          out[ky] = std::max(0.0F, 1 - std::abs(places[ky] - middle)) * from[ky];
      });
  BlockReader gains_of(maps[0].size(), inner.size(), reach_px);
  Image added = Image::unset(1, inner.size());
  std::vector<float> gain(static_cast<std::size_t>(inner.width)), last(gain.size());
  for (int y = 0; y < inner.height; ++y) {
    gains_of.row(maps.back(), y, last);
    const auto out = added.view().row(0, y);
    const auto change = in.changes.row(0, inner.y + y).subspan(static_cast<std::size_t>(inner.x));
    for (std::size_t x = 0; x < out.size(); ++x) out[x] = (last[x] - 1) * change[x];
    for (int band = 0; band + 1 < bands; ++band) {
      gains_of.row(maps[static_cast<std::size_t>(band)], y, gain);
      const auto part = parts.view().row(band, y);
      for (std::size_t x = 0; x < out.size(); ++x) out[x] += (gain[x] - last[x]) * part[x];
    }
  }
  return added;
}

}  // namespace limpid
