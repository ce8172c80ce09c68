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
      for (std::size_t ky = 0; ky < height_; ++ky) {
        const float power = std::log(std::max(1e-12F, std::norm(column[ky])));
        std::size_t above = 1;
        while (above + 1 < middles.size() && power > logarithms[above]) ++above;
        const float from = logarithms[above - 1], to = logarithms[above];
        places_[static_cast<std::size_t>(kx) * height_ + ky] =
            static_cast<float>(above - 1) + std::clamp((power - from) / (to - from), 0.0F, 1.0F);
      }
    }
  }
  [[nodiscard]] float share(int band, int kx, std::size_t ky) const {
    const float place = places_[static_cast<std::size_t>(kx) * height_ + ky];
    return std::max(0.0F, 1 - std::abs(place - static_cast<float>(band)));
  }

 private:
  std::size_t height_;
  std::vector<float> places_;
};

/// What the record's light should become, times |T|^2: as certain as its noise leaves it.
Complex wanted_change(Complex transfer) { return std::conj(transfer) * (1.0F - transfer); }

/// Column kx of the spectrum of every other pixel of every other row: `value(kx, ky)` of the half
/// spectrum of all of them, with what lies half a spectrum away.
template <typename Value>
void fold(Size size, int kx, std::span<Complex> out, const Value& value) {
  const auto height = static_cast<std::size_t>(size.height), half = height / 2;
  const int mirrored = size.width / 2 - kx;
  for (std::size_t ky = 0; ky < half; ++ky) {
    out[ky] =
        0.25F * (value(kx, ky) + value(kx, ky + half) +
                 std::conj(value(mirrored, (height - ky) % height) + value(mirrored, half - ky)));
  }
}

/// Sums over blocks of 2 x 2 sampled pixels.
Image in_blocks(Size blocks, auto value) {
  Image sums(1, blocks);
  for_pixels({0, 0, blocks.width, blocks.height}, [&](int x, int y) {
    float sum = 0;
    for (int j = 0; j < 2; ++j) {
      for (int i = 0; i < 2; ++i) sum += value(2 * x + i, 2 * y + j);
    }
    sums.view()(0, y, x) = sum;
  });
  return box_mean(box_mean(sums.view(), half_window_blocks).view(), half_window_blocks);
}

/// A map of blocks, between whose middles values are linear, row by row.
class BlockMap {
 public:
  BlockMap(const Image& blocks, int margin_px) : blocks_(blocks.view()), margin_px_(margin_px) {}
  /// Values for the pixels of row y of what lies inside the margin.
  void row(int y, std::span<float> out) {
    const auto [top, down] = place(y, blocks_.height());
    line_.resize(static_cast<std::size_t>(blocks_.width()));
    const auto above = blocks_.row(0, top), below = blocks_.row(0, top + 1);
    for (std::size_t i = 0; i < line_.size(); ++i)
      line_[i] = above[i] + down * (below[i] - above[i]);
    for (std::size_t x = 0; x < out.size(); ++x) {
      const auto [left, right] = place(static_cast<int>(x), blocks_.width());
      const float* at = &line_[static_cast<std::size_t>(left)];
      out[x] = at[0] + right * (at[1] - at[0]);
    }
  }

 private:
  [[nodiscard]] std::pair<int, float> place(int px, int count) const {
    const float at = (static_cast<float>(px + margin_px_) - (block_px - 2) / 2.0F) /
                     static_cast<float>(block_px);
    const int first = std::clamp(static_cast<int>(at), 0, count - 2);
    return {first, std::clamp(at - static_cast<float>(first), 0.0F, 1.0F)};
  }
  ConstView blocks_;
  int margin_px_;
  std::vector<float> line_;
};

/// Noise of a band over that of the frequencies of stars, which the variance is about. Where
/// neighbouring pixels share their noise there is no more of it at high frequencies than their
/// scatter tells. A fifth on top: noise that is taken for light costs more than the reverse.
float noise_share(int band, float correlation) {
  constexpr std::array<float, middles.size()> powers{-2, -2, -1, 0};
  constexpr float caution = 1.2F;
  return caution * std::pow(correlation, powers[static_cast<std::size_t>(band)]);
}

/// One map of gains per band, in blocks, for `inner` and `reach_px` around it.
std::vector<Image> gains(const BandGainInput& in, const Bands& shares, Rect inner) {
  const Size size = in.transfer.size(), half{size.width / 2, size.height / 2};
  const Rect wide = grown(inner, reach_px);
  const Rect sampled{wide.x / 2, wide.y / 2, wide.width / 2, wide.height / 2};
  const Size blocks{sampled.width / 2, sampled.height / 2};
  const Image moments =
      image_from_columns(2 * bands, half, sampled, [&](int plane, int kx, std::span<Complex> out) {
        const int band = plane % bands;
        fold(size, kx, out, [&](int x, std::size_t y) {
          const Complex t = in.transfer.column(in.channel, x)[y];
          const float share = shares.share(band, x, y);
          return plane < bands ? share * wanted_change(t) * in.recorded.column(in.channel, x)[y]
                               : share * std::norm(t) * in.changed.column(in.channel, x)[y];
        });
      });
  std::array<double, middles.size()> noise_power{};
  for (int kx = 0; kx < in.transfer.columns(); ++kx) {
    const double twice = kx == 0 || 2 * kx == size.width ? 1 : 2;
    const auto column = in.transfer.column(in.channel, kx);
    for (std::size_t ky = 0; ky < column.size(); ++ky) {
      const float power = std::norm(wanted_change(column[ky]));
      for (int band = 0; band < bands; ++band) {
        const float share = shares.share(band, kx, ky);
        noise_power[static_cast<std::size_t>(band)] +=
            twice * static_cast<double>(share * share * power);
      }
    }
  }
  // pixels of the tile that are sampled, and whether they count
  const auto counts = [&](int x, int y) {
    return in.hidden(0, 2 * (sampled.y + y), 2 * (sampled.x + x)) == 0;
  };
  const Image noise = in_blocks(blocks, [&](int x, int y) {
    return counts(x, y) ? in.variance(in.shown(0, 2 * (sampled.y + y), 2 * (sampled.x + x))) : 0;
  });
  std::vector<Image> maps;
  for (int band = 0; band < bands; ++band) {
    const auto product = [&](int a, int b) {
      const ConstView first = moments.view().channel(a), second = moments.view().channel(b);
      return in_blocks(blocks, [&](int x, int y) {
        return counts(x, y) ? first(0, y, x) * second(0, y, x) : 0;
      });
    };
    const Image wanted = product(band, band), both = product(band, bands + band),
                made = product(bands + band, bands + band);
    const float of_noise = noise_share(band, in.correlation) *
                           static_cast<float>(noise_power[static_cast<std::size_t>(band)] /
                                              static_cast<double>(size.pixels()));
    Image map(1, blocks);
    for (std::size_t i = 0; i < map.pixels().size(); ++i) {
      const float w = wanted.pixels()[i], m = made.pixels()[i];
      const float light = w > 0 ? std::max(0.0F, 1 - of_noise * noise.pixels()[i] / w) : 0;
      map.pixels()[i] = m > 0 ? std::clamp(light * both.pixels()[i] / m, 0.0F, most_gain) : 1;
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
  const Image parts = image_from_columns(bands - 1, in.transfer.size(), inner,
                                         [&](int band, int kx, std::span<Complex> out) {
                                           const auto from = in.changed.column(in.channel, kx);
                                           for (std::size_t ky = 0; ky < out.size(); ++ky)
                                             out[ky] = shares.share(band, kx, ky) * from[ky];
                                         });
  std::vector<BlockMap> rows;
  for (const Image& map : maps) rows.emplace_back(map, reach_px);
  Image added(1, inner.size());
  std::vector<float> gain(static_cast<std::size_t>(inner.width)), last(gain.size());
  for (int y = 0; y < inner.height; ++y) {
    rows.back().row(y, last);
    const auto out = added.view().row(0, y);
    const auto change = in.changes.row(0, inner.y + y).subspan(static_cast<std::size_t>(inner.x));
    for (std::size_t x = 0; x < out.size(); ++x) out[x] = (last[x] - 1) * change[x];
    for (int band = 0; band + 1 < bands; ++band) {
      rows[static_cast<std::size_t>(band)].row(y, gain);
      const auto part = parts.view().row(band, y);
      for (std::size_t x = 0; x < out.size(); ++x) out[x] += (gain[x] - last[x]) * part[x];
    }
  }
  return added;
}

}  // namespace limpid
