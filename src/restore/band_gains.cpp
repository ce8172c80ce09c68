#include "restore/band_gains.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstring>
#include <span>
#include <vector>

#include "core/box_mean.h"
#include "core/complex_lanes.h"
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

/// Where each frequency lies between the middles of the bands: 0 in the middle of the first band
/// and below it, 1 in that of the second, and so on.
class Bands {
 public:
  Bands(const ColumnSpectrum& transfer, int channel)
      : height_(static_cast<std::size_t>(transfer.size().height)),
        places_(height_ * static_cast<std::size_t>(transfer.columns())) {
    std::array<float, middles.size()> logarithms{};
    std::ranges::transform(middles, logarithms.begin(), [](float m) { return 2 * std::log(m); });
    const float lowest = middles.front() * middles.front(),
                highest = middles.back() * middles.back();
    for (int kx = 0; kx < transfer.columns(); ++kx) {
      const auto column = transfer.column(channel, kx);
      float* const places = &places_[static_cast<std::size_t>(kx) * height_];
      float first = bands - 1, last = 0;
      for (std::size_t ky = 0; ky < height_; ++ky) {
        const float power = std::norm(column[ky]);
        float& place = places[ky];
        if (power <= lowest) {
          place = 0;
        } else if (power >= highest) {
          place = bands - 1;
        } else {
          const float logarithm = std::log(power);
          std::size_t above = 1;
          while (above + 1 < middles.size() && logarithm > logarithms[above]) ++above;
          const float from = logarithms[above - 1], to = logarithms[above];
          place = static_cast<float>(above - 1) +
                  std::clamp((logarithm - from) / (to - from), 0.0F, 1.0F);
        }
        first = std::min(first, place);
        last = std::max(last, place);
      }
      present_.push_back({static_cast<int>(first), static_cast<int>(std::ceil(last))});
      for (int band = present_.back().first; band <= present_.back().last; ++band)
        filled_[static_cast<std::size_t>(band)] = kx + 1;
    }
  }
  [[nodiscard]] std::span<const float> places(int kx) const {
    return {&places_[static_cast<std::size_t>(kx) * height_], height_};
  }
  /// Which bands some frequency of a column belongs to.
  struct Present {
    int first, last;
  };
  [[nodiscard]] Present present(int kx) const { return present_[static_cast<std::size_t>(kx)]; }
  /// From this column on there is nothing of the band.
  [[nodiscard]] int filled(int band) const { return filled_[static_cast<std::size_t>(band)]; }

 private:
  std::size_t height_;
  std::vector<float> places_;
  std::vector<Present> present_;
  std::array<int, middles.size()> filled_{};
};

/// Shares of a band at these places, 1 in its middle.
template <typename Places>
Places share_of(int band, Places places) {
  const Places from_middle = places - static_cast<float>(band);
  const Places share = 1 - (from_middle < 0 ? -from_middle : from_middle);
  return share < 0 ? Places{} : share;
}

/// One column of what is compared, band by band, at every other row of the image: wanted changes
/// times |T|^2, and made ones.
struct FoldedColumn {
  std::array<std::vector<Complex>, 2 * middles.size()> bands;
  explicit FoldedColumn(std::size_t rows) { bands.fill(std::vector<Complex>(rows)); }
  [[nodiscard]] std::span<Complex> wanted(int band) {
    return bands[static_cast<std::size_t>(band)];
  }
  [[nodiscard]] std::span<Complex> made(int band) {
    return bands[middles.size() + static_cast<std::size_t>(band)];
  }
};

/// What is compared in each band, at every other pixel of every other row, and the power of noise
/// in the first, of white noise of unit variance.
struct Moments {
  ColumnSpectrum spectra;             ///< of the wanted changes of all bands, then the made ones
  std::array<int, 2 * bands> filled;  ///< columns of each that are not zero
  std::array<double, middles.size()> noise_power{};
};

/// Two numbers for each of four, as real and imaginary parts.
FloatLanes doubled(const float* from, std::size_t count) {
  using Four = float __attribute__((vector_size(16)));
  Four values{};
  if (count == complex_lane_count) {
    std::memcpy(&values, from, sizeof values);
  } else {
    std::memcpy(&values, from, count * sizeof(float));
  }
  return __builtin_shufflevector(values, values, 0, 0, 1, 1, 2, 2, 3, 3);
}
/// Fills the bands that are present in column kx. Frequencies that lie half a column apart fall
/// together. Adds the noise, `twice` of it.
void fold_column(const BandGainInput& in, const Bands& shares, int kx, double twice,
                 FoldedColumn& out, std::array<double, middles.size()>& noise_power) {
  const auto transfer = in.transfer.column(in.channel, kx),
             recorded = in.recorded.column(in.channel, kx),
             changed = in.changed.column(in.channel, kx);
  const auto places = shares.places(kx);
  const auto [first, last] = shares.present(kx);
  const std::size_t half = places.size() / 2;
  std::array<FloatLanes, middles.size()> noise{};
  for (std::size_t ky = 0; ky < half; ky += complex_lane_count) {
    const std::size_t count = std::min(complex_lane_count, half - ky);
    std::array<FloatLanes, 2> place, wanted, made, lost;
    for (std::size_t part = 0; part < 2; ++part) {
      const std::size_t at = ky + part * half;
      const FloatLanes t = load_some(&transfer[at], count), power = powers(t),
                       filter = conjugate(t) - power * real_part;  // T* (1 - T)
      place[part] = doubled(&places[at], count);
      wanted[part] = 0.25F * product(filter, load_some(&recorded[at], count));
      made[part] = 0.25F * power * load_some(&changed[at], count);
      lost[part] = filter * filter;
    }
    for (int band = first; band <= last; ++band) {
      const FloatLanes low = share_of(band, place[0]), high = share_of(band, place[1]);
      store_some(&out.wanted(band)[ky], low * wanted[0] + high * wanted[1], count);
      store_some(&out.made(band)[ky], low * made[0] + high * made[1], count);
      noise[static_cast<std::size_t>(band)] += low * low * lost[0] + high * high * lost[1];
    }
  }
  for (std::size_t band = 0; band < middles.size(); ++band) {
    for (int i = 0; i < float_lane_count; ++i)
      noise_power[band] += twice * static_cast<double>(noise[band][i]);
  }
}

/// to(k) += conj from(-k)
void add_mirrored(std::span<const Complex> from, std::span<Complex> to) {
  to[0] += std::conj(from[0]);
  std::size_t k = 1;
  for (; k + complex_lane_count <= to.size(); k += complex_lane_count) {
    const FloatLanes there = load_lanes(&from[to.size() - k - complex_lane_count + 1]);
    store_lanes(&to[k], load_lanes(&to[k]) + conjugate(reversed(there)));
  }
  for (; k < to.size(); ++k) to[k] += std::conj(from[to.size() - k]);
}

/// Every other pixel of every other row: frequencies that lie half a spectrum apart fall together,
/// those of the half that is not kept as mirrored conjugates.
Moments moments_of(const BandGainInput& in, const Bands& shares) {
  const Size size = in.transfer.size(), half{size.width / 2, size.height / 2};
  Moments m{.spectra = ColumnSpectrum(2 * bands, half), .filled = {}};
  for (int plane = 0; plane < 2 * bands; ++plane) {
    const int filled = shares.filled(plane % bands), first_mirrored = half.width - filled + 1;
    m.filled[static_cast<std::size_t>(plane)] = first_mirrored < m.spectra.columns()
                                                    ? m.spectra.columns()
                                                    : std::min(filled, m.spectra.columns());
  }
  FoldedColumn own(static_cast<std::size_t>(half.height)), mirrored = own;
  for (int kx = 0; kx < m.spectra.columns(); ++kx) {
    const int mirrored_kx = half.width - kx;
    fold_column(in, shares, kx, kx == 0 ? 1 : 2, own, m.noise_power);
    // the column in the middle, which is its own mirror, has counted already
    fold_column(in, shares, mirrored_kx,
                mirrored_kx == kx ? 0
                : kx == 0         ? 1
                                  : 2,
                mirrored, m.noise_power);
    const auto here = shares.present(kx), there = shares.present(mirrored_kx);
    for (int plane = 0; plane < 2 * bands; ++plane) {
      const int band = plane % bands;
      const auto at = static_cast<std::size_t>(plane);
      if (kx >= m.filled[at]) continue;
      const auto column = m.spectra.column(plane, kx);
      if (band >= here.first && band <= here.last) {
        std::ranges::copy(own.bands[at], column.begin());
      } else {
        std::ranges::fill(column, Complex());
      }
      if (band >= there.first && band <= there.last) add_mirrored(mirrored.bands[at], column);
    }
  }
  for (double& power : m.noise_power) power /= static_cast<double>(size.pixels());
  return m;
}

/// Sums over blocks of two by two sampled pixels. add_rows(y, line) gives the sums of rows y and
/// y + 1.
template <typename AddRows>
Image in_blocks(Size sampled, const AddRows& add_rows) {
  Image sums = Image::unset(1, {sampled.width / 2, sampled.height / 2});
  std::vector<float> line(static_cast<std::size_t>(sampled.width));
  for (int y = 0; y < sums.height(); ++y) {
    add_rows(2 * y, std::span(line));
    const auto out = sums.view().row(0, y);
    for (std::size_t x = 0; x < out.size(); ++x) out[x] = line[2 * x] + line[2 * x + 1];
  }
  return sums;
}

/// Means over windows of blocks.
Image in_windows(const Image& blocks) {
  return box_mean(box_mean(blocks.view(), half_window_blocks).view(), half_window_blocks);
}

/// Reads maps of blocks, between whose middles values are linear, row by row of what lies inside
/// the margin.
class BlockReader {
 public:
  BlockReader(std::span<const Image> maps, Size inner, int margin_px)
      : maps_(maps),
        margin_px_(margin_px),
        above_(maps.size(), std::vector<float>(static_cast<std::size_t>(inner.width))),
        below_(above_) {
    for (int x = 0; x < inner.width; ++x) columns_.push_back(place(x, maps[0].width()));
  }
  /// Goes to row y. Those of the same blocks come at little cost.
  void go_to(int y) {
    const auto [top, down] = place(y, maps_[0].height());
    down_ = down;
    if (top == top_) return;
    for (std::size_t map = 0; map < maps_.size(); ++map) {
      if (top == top_ + 1 && top_ >= 0) {
        std::swap(above_[map], below_[map]);
      } else {
        widen(maps_[map].view().row(0, top), above_[map]);
      }
      widen(maps_[map].view().row(0, top + 1), below_[map]);
    }
    top_ = top;
  }
  /// Adds what one map times `values` is.
  void add_product(std::size_t map, std::span<const float> values, std::span<float> to) const {
    const float *above = above_[map].data(), *below = below_[map].data();
    const float down = down_;
    for (std::size_t x = 0; x < to.size(); ++x)
      to[x] += (above[x] + down * (below[x] - above[x])) * values[x];
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
  void widen(std::span<const float> blocks, std::vector<float>& line) const {
    for (std::size_t x = 0; x < line.size(); ++x) {
      const float* at = &blocks[static_cast<std::size_t>(columns_[x].first)];
      line[x] = at[0] + columns_[x].part * (at[1] - at[0]);
    }
  }
  std::span<const Image> maps_;
  int margin_px_, top_ = -1;
  float down_ = 0;
  std::vector<std::vector<float>> above_, below_;  ///< rows of blocks, in pixels
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
  const float unknown = falling(light, known_from, known_to);
  if (unknown <= 0) return gain;
  const float certain = 1 - std::min(unknown, falling(of_made, follows_from, follows_to));
  return 1 + (gain - 1) * certain;
}

/// What is compared, at every other pixel: all planes of moments_of(), 0 where nothing is to be
/// compared.
Image planes_of(const BandGainInput& in, const Moments& moments, Rect sampled) {
  Image planes =
      image_from_columns(2 * bands, moments.spectra.size(), sampled,
                         [&](int plane, int kx, std::span<Complex> out) {
                           std::ranges::copy(moments.spectra.column(plane, kx), out.begin());
                         },
                         {.filled = moments.filled});
  for (int y = 0; y < sampled.height; ++y) {
    const auto hidden = in.hidden.row(0, 2 * (sampled.y + y));
    for (int x = 0; x < sampled.width; ++x) {
      if (hidden[static_cast<std::size_t>(2 * (sampled.x + x))] == 0) continue;
      for (int plane = 0; plane < 2 * bands; ++plane) planes.view()(plane, y, x) = 0;
    }
  }
  return planes;
}

/// Variance of the noise, 0 where nothing is to be compared.
Image noise_in_windows(const BandGainInput& in, Rect sampled) {
  return in_windows(in_blocks(sampled.size(), [&](int row, std::span<float> line) {
    const NoiseVariance variance = in.variance;  // of which no line can be a part
    std::ranges::fill(line, 0.0F);
    for (int y = 2 * (sampled.y + row); y < 2 * (sampled.y + row + 2); y += 2) {
      const auto hidden = in.hidden.row(0, y), shown = in.shown.row(0, y);
      for (std::size_t x = 0; x < line.size(); ++x) {
        const std::size_t at = 2 * (static_cast<std::size_t>(sampled.x) + x);
        line[x] += hidden[at] != 0 ? 0 : variance(shown[at]);
      }
    }
  }));
}

/// One map per band, in blocks, for `inner` and `reach_px` around it: of the first band its gain
/// less one, of the others what they gain more.
std::vector<Image> gains(const BandGainInput& in, const Bands& shares, Rect inner) {
  const Rect wide = grown(inner, reach_px);
  const Rect sampled{wide.x / 2, wide.y / 2, wide.width / 2, wide.height / 2};
  const Moments moments = moments_of(in, shares);
  const Image planes = planes_of(in, moments, sampled), variance = noise_in_windows(in, sampled);
  const auto mean_product = [&](int a, int b) {
    return in_windows(in_blocks(sampled.size(), [&](int y, std::span<float> line) {
      const auto a0 = planes.view().row(a, y), a1 = planes.view().row(a, y + 1),
                 b0 = planes.view().row(b, y), b1 = planes.view().row(b, y + 1);
      for (std::size_t x = 0; x < line.size(); ++x) line[x] = a0[x] * b0[x] + a1[x] * b1[x];
    }));
  };
  std::vector<Image> maps;
  for (int band = 0; band < bands; ++band) {
    const Image wanted = mean_product(band, band), both = mean_product(band, bands + band),
                made = mean_product(bands + band, bands + band);
    const float of_noise = noise_share(band, in.correlation) *
                           static_cast<float>(moments.noise_power[static_cast<std::size_t>(band)]);
    Image map = Image::unset(1, variance.size());
    for (std::size_t i = 0; i < map.pixels().size(); ++i) {
      const float less = maps.empty() ? 1 : 1 + maps[0].pixels()[i];
      map.pixels()[i] = gain_of(wanted.pixels()[i], both.pixels()[i], made.pixels()[i],
                                of_noise * variance.pixels()[i]) -
                        less;
    }
    maps.push_back(std::move(map));
  }
  return maps;
}

}  // namespace

Image band_gains(const BandGainInput& in, Rect inner) {
  const Bands shares(in.transfer, in.channel);
  const std::vector<Image> maps = gains(in, shares, inner);
  // the first band, which has most of the frequencies, is what the others leave
  std::array<int, bands - 1> filled{};
  for (int band = 1; band < bands; ++band)
    filled[static_cast<std::size_t>(band - 1)] = shares.filled(band);
  const Image parts = image_from_columns(bands - 1, in.transfer.size(), inner,
                                         [&](int part, int kx, std::span<Complex> out) {
                                           const auto from = in.changed.column(in.channel, kx);
                                           const auto places = shares.places(kx);
                                           for (std::size_t ky = 0; ky < out.size(); ++ky)
                                             out[ky] = share_of(part + 1, places[ky]) * from[ky];
                                         },
                                         {.filled = filled, .sources = 1});
  BlockReader gain(maps, inner.size(), reach_px);
  Image added = Image::unset(1, inner.size());
  for (int y = 0; y < inner.height; ++y) {
    gain.go_to(y);
    const auto out = added.view().row(0, y);
    const auto change = in.changes.row(0, inner.y + y).subspan(static_cast<std::size_t>(inner.x));
    std::ranges::fill(out, 0.0F);
    gain.add_product(0, change, out);
    for (int band = 1; band < bands; ++band)
      gain.add_product(static_cast<std::size_t>(band), parts.view().row(band - 1, y), out);
  }
  return added;
}

}  // namespace limpid
