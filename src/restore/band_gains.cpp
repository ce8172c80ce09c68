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
#include "core/fft_columns.h"
#include "restore/frequency_bands.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

using Complex = std::complex<float>;

constexpr int bands = band_count;
constexpr float most_gain = 2;
// Moments are taken of every other pixel, summed over blocks, and averaged twice over squares.
constexpr int block_px = 4, half_window_blocks = 3;
constexpr int reach_px = 28;  // from a pixel to the farthest that has a say in its gain

/// One column of what is compared, band by band, at every other row of the image: wanted changes
/// times |T|^2, and made ones.
struct FoldedColumn {
  std::array<std::vector<Complex>, 2 * band_middles.size()> bands;
  explicit FoldedColumn(std::size_t rows) { bands.fill(std::vector<Complex>(rows)); }
  [[nodiscard]] std::span<Complex> wanted(int band) {
    return bands[static_cast<std::size_t>(band)];
  }
  [[nodiscard]] std::span<Complex> made(int band) {
    return bands[band_middles.size() + static_cast<std::size_t>(band)];
  }
};

/// Fills the bands that are present in column kx. Frequencies that lie half a column apart fall
/// together. Adds the noise, `twice` of it.
void fold_column(const BandGainInput& in, const FrequencyBands& shares, int kx, double twice,
                 FoldedColumn& out, std::array<double, band_middles.size()>& noise_power) {
  const auto transfer = in.transfer.line(kx), recorded = in.recorded.line(kx),
             of_result = in.made.line(kx);
  const auto places = shares.places(kx);
  const auto [first, last] = shares.present(kx);
  const std::size_t half = places.size() / 2;
  std::array<FloatLanes, band_middles.size()> noise{};
  for (std::size_t ky = 0; ky < half; ky += complex_lane_count) {
    const std::size_t count = std::min(complex_lane_count, half - ky);
    std::array<FloatLanes, 2> place, wanted, made, lost;
    for (std::size_t part = 0; part < 2; ++part) {
      const std::size_t at = ky + part * half;
      const FloatLanes t = load_some(&transfer[at], count), power = powers(t),
                       filter = conjugate(t) - power * real_part;  // T* (1 - T)
      place[part] = doubled(&places[at], count);
      const FloatLanes was = load_some(&recorded[at], count);
      wanted[part] = 0.25F * product(filter, was);
      made[part] = 0.25F * power * (load_some(&of_result[at], count) - was);
      lost[part] = filter * filter;
    }
    for (int band = first; band <= last; ++band) {
      const FloatLanes low = share_of_band(band, place[0]), high = share_of_band(band, place[1]);
      store_some(&out.wanted(band)[ky], low * wanted[0] + high * wanted[1], count);
      store_some(&out.made(band)[ky], low * made[0] + high * made[1], count);
      noise[static_cast<std::size_t>(band)] += low * low * lost[0] + high * high * lost[1];
    }
  }
  for (std::size_t band = 0; band < band_middles.size(); ++band) {
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

/// What is compared in each band, at every other pixel of every other row, as columns of spectra:
/// of the wanted changes of all bands, then of the made ones. Frequencies that lie half a spectrum
/// apart fall together, those of the half that is not kept as mirrored conjugates.
class Moments {
 public:
  Moments(const BandGainInput& in, const FrequencyBands& shares)
      : in_(in),
        shares_(shares),
        half_{in.hidden.width() / 2, in.hidden.height() / 2},
        own_(static_cast<std::size_t>(half_.height)),
        mirrored_(own_) {}
  [[nodiscard]] Size size() const { return half_; }
  /// Columns of each plane that are not zero.
  [[nodiscard]] std::array<int, 2 * bands> filled() const {
    const int columns = half_.width / 2 + 1;
    std::array<int, 2 * bands> filled{};
    for (int plane = 0; plane < 2 * bands; ++plane) {
      const int of_band = shares_.filled(plane % bands), first_mirrored = half_.width - of_band + 1;
      filled[static_cast<std::size_t>(plane)] =
          first_mirrored < columns ? columns : std::min(of_band, columns);
    }
    return filled;
  }
  /// Sets one column. Columns are asked for in order, each for all planes before the next.
  void set(int plane, int kx, std::span<Complex> column) {
    const int mirrored_kx = half_.width - kx;
    if (kx != folded_) fold(kx, mirrored_kx);
    const auto here = shares_.present(kx), there = shares_.present(mirrored_kx);
    const int band = plane % bands;
    const auto at = static_cast<std::size_t>(plane);
    if (band >= here.first && band <= here.last) {
      std::ranges::copy(own_.bands[at], column.begin());
    } else {
      std::ranges::fill(column, Complex());
    }
    if (band >= there.first && band <= there.last) add_mirrored(mirrored_.bands[at], column);
  }
  /// Of the noise in a band, of white noise of unit variance, once all columns are set.
  [[nodiscard]] float noise_power(int band) const {
    return static_cast<float>(noise_power_[static_cast<std::size_t>(band)] /
                              static_cast<double>(in_.hidden.size().pixels()));
  }

 private:
  void fold(int kx, int mirrored_kx) {
    fold_column(in_, shares_, kx, kx == 0 ? 1 : 2, own_, noise_power_);
    // the column in the middle, which is its own mirror, has counted already
    const double twice = mirrored_kx == kx ? 0 : kx == 0 ? 1 : 2;
    fold_column(in_, shares_, mirrored_kx, twice, mirrored_, noise_power_);
    folded_ = kx;
  }

  const BandGainInput& in_;
  const FrequencyBands& shares_;
  Size half_;
  FoldedColumn own_, mirrored_;
  std::array<double, band_middles.size()> noise_power_{};
  int folded_ = -1;
};

/// Sums over blocks of two by two sampled pixels, of two rows that are added up already.
void add_pairs(std::span<const float> line, std::span<float> sums) {
  for (std::size_t x = 0; x < sums.size(); ++x) sums[x] = line[2 * x] + line[2 * x + 1];
}

/// Means over windows of blocks.
Image in_windows(const Image& blocks) {
  return box_mean(box_mean(blocks.view(), half_window_blocks).view(), half_window_blocks);
}

/// Reads maps of blocks, between whose middles values are linear, row by row of what lies inside
/// the margin.
class BlockReader {
 public:
  using Maps = std::array<Image, band_middles.size()>;
  BlockReader(const Maps& maps, Size inner, int margin_px) : maps_(maps), margin_px_(margin_px) {
    // whole blocks, of which the first begins before the margin's end
    const int blocks = (inner.width + block_px - 1) / block_px + 1;
    for (auto& line : above_) line.resize(static_cast<std::size_t>(blocks * block_px));
    below_ = above_;
  }
  /// Goes to row y. Those of the same blocks come at little cost.
  void go_to(int y) {
    const int count = maps_[0].height();
    const float at = block_of(y);
    const int top = std::clamp(static_cast<int>(at), 0, count - 2);
    down_ = std::clamp(at - static_cast<float>(top), 0.0F, 1.0F);
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
  /// Adds `share` of what the maps times `values` are.
  void add_products(const std::array<const float*, band_middles.size()>& values,
                    std::span<const float> share, std::span<float> to) const {
    std::array<const float*, band_middles.size()> above{}, below{};
    for (std::size_t map = 0; map < maps_.size(); ++map) {
      above[map] = above_[map].data() + skipped();
      below[map] = below_[map].data() + skipped();
    }
    for (std::size_t x = 0; x < to.size(); x += float_lane_count) {
      const std::size_t count = std::min<std::size_t>(float_lane_count, to.size() - x);
      FloatLanes sum{};
      for (std::size_t map = 0; map < band_middles.size(); ++map) {
        const FloatLanes from = load_some(above[map] + x, count);
        sum += (from + down_ * (load_some(below[map] + x, count) - from)) *
               load_some(values[map] + x, count);
      }
      store_some(&to[x], load_some(&to[x], count) + load_some(&share[x], count) * sum, count);
    }
  }

 private:
  /// Where a pixel lies between the middles of blocks, whose first pixel alone is sampled with its
  /// next but one.
  [[nodiscard]] float block_of(int px) const {
    return static_cast<float>(px + margin_px_ - (block_px - 2) / 2) / static_cast<float>(block_px);
  }
  /// Pixels of the first block that the margin hides.
  [[nodiscard]] std::size_t skipped() const {
    return static_cast<std::size_t>((margin_px_ - (block_px - 2) / 2) % block_px);
  }
  void widen(std::span<const float> blocks, std::vector<float>& line) const {
    const float* from = &blocks[static_cast<std::size_t>(block_of(0))];
    for (std::size_t block = 0; block < line.size() / block_px; ++block) {
      const float value = from[block], more = (from[block + 1] - value) / block_px;
      for (std::size_t i = 0; i < block_px; ++i)
        line[block * block_px + i] = value + static_cast<float>(i) * more;
    }
  }
  const Maps& maps_;
  int margin_px_, top_ = -1;
  float down_ = 0;
  std::array<std::vector<float>, band_middles.size()> above_,
      below_;  ///< rows of blocks, in pixels
};

/// Noise of a band over that of the frequencies of stars, which the variance is about. Where
/// neighbouring pixels share their noise there is no more of it at high frequencies than their
/// scatter tells. A fifth on top: noise that is taken for light costs more than the reverse.
float noise_share(int band, float correlation) {
  constexpr std::array<float, band_middles.size()> powers{-2, -2, -1, 0};
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

/// (1, h, w): 1 at sampled pixels that are compared, 0 at others.
Image compared(ConstView hidden, Rect sampled) {
  Image seen = Image::unset(1, sampled.size());
  for (int y = 0; y < sampled.height; ++y) {
    const float* flags = &hidden(0, 2 * (sampled.y + y), 2 * sampled.x);
    const auto out = seen.view().row(0, y);
    for (std::size_t x = 0; x < out.size(); ++x) out[x] = flags[2 * x] == 0 ? 1.0F : 0.0F;
  }
  return seen;
}

/// Variance of the noise, in windows.
Image noise_in_windows(const BandGainInput& in, ConstView seen, Rect sampled) {
  Image sums = Image::unset(1, {sampled.width / 2, sampled.height / 2});
  std::vector<float> line(static_cast<std::size_t>(sampled.width));
  const NoiseVariance variance = in.variance;  // of which no line can be a part
  for (int y = 0; y < sums.height(); ++y) {
    const float *first = &in.shown(0, 2 * (sampled.y + 2 * y), 2 * sampled.x),
                *second = &in.shown(0, 2 * (sampled.y + 2 * y + 1), 2 * sampled.x);
    const auto here = seen.row(0, 2 * y), below = seen.row(0, 2 * y + 1);
    for (std::size_t x = 0; x < line.size(); ++x)
      line[x] = here[x] * variance(first[2 * x]) + below[x] * variance(second[2 * x]);
    add_pairs(line, sums.view().row(0, y));
  }
  return in_windows(sums);
}

/// Squares of a wanted change and of a made one, and their product, in blocks.
struct Products {
  Image wanted, both, made;
  explicit Products(Size blocks)
      : wanted(Image::unset(1, blocks)),
        both(Image::unset(1, blocks)),
        made(Image::unset(1, blocks)) {}
};

/// Sets the blocks of these sampled rows, of which there are two for each.
void set_products(ConstView wanted, ConstView made, ConstView seen, int first, Products& products) {
  const auto set = [](std::span<float> sums, std::size_t x, FloatLanes values, std::size_t count) {
    using Four = float __attribute__((vector_size(16)));
    const Four pairs = __builtin_shufflevector(values, values, 0, 2, 4, 6) +
                       __builtin_shufflevector(values, values, 1, 3, 5, 7);
    std::memcpy(&sums[x / 2], &pairs, count / 2 * sizeof(float));
  };
  for (int y = 0; y + 1 < seen.height(); y += 2) {
    const auto w0 = wanted.row(0, y), w1 = wanted.row(0, y + 1), m0 = made.row(0, y),
               m1 = made.row(0, y + 1), s0 = seen.row(0, y), s1 = seen.row(0, y + 1);
    const int block = (first + y) / 2;
    const auto squares = products.wanted.view().row(0, block),
               both = products.both.view().row(0, block),
               own_squares = products.made.view().row(0, block);
    for (std::size_t x = 0; x + 1 < w0.size(); x += float_lane_count) {
      const std::size_t count = std::min<std::size_t>(float_lane_count, w0.size() - x);
      const FloatLanes above = load_some(&s0[x], count), below = load_some(&s1[x], count),
                       a = above * load_some(&w0[x], count), b = below * load_some(&w1[x], count),
                       c = above * load_some(&m0[x], count), d = below * load_some(&m1[x], count);
      set(squares, x, a * a + b * b, count);
      set(both, x, a * c + b * d, count);
      set(own_squares, x, c * c + d * d, count);
    }
  }
}

/// One map per band, in blocks, for `inner` and `reach_px` around it: of the first band its gain
/// less one, of the others what they gain more.
BlockReader::Maps gains(const BandGainInput& in, const FrequencyBands& shares, Rect inner) {
  const Rect wide = grown(inner, reach_px);
  const Rect sampled{wide.x / 2, wide.y / 2, wide.width / 2, wide.height / 2};
  const Image seen = compared(in.hidden, sampled),
              variance = noise_in_windows(in, seen.view(), sampled);
  Moments moments(in, shares);
  const auto filled = moments.filled();
  std::vector<Products> products;
  for (int band = 0; band < bands; ++band) products.emplace_back(variance.size());
  rows_from_columns(
      2 * bands, moments.size(), sampled,
      [&](int plane, int kx, std::span<Complex> out) { moments.set(plane, kx, out); },
      [&](int first, ConstView rows) {
        const ConstView beside = seen.view().crop({0, first, sampled.width, rows.height()});
        for (int band = 0; band < bands; ++band) {
          set_products(rows.channel(band), rows.channel(bands + band), beside, first,
                       products[static_cast<std::size_t>(band)]);
        }
      },
      filled);
  BlockReader::Maps maps;
  for (int band = 0; band < bands; ++band) {
    const Products& of_band = products[static_cast<std::size_t>(band)];
    const Image wanted = in_windows(of_band.wanted), both = in_windows(of_band.both),
                made = in_windows(of_band.made);
    const float of_noise = noise_share(band, in.correlation) * moments.noise_power(band);
    Image& map = maps[static_cast<std::size_t>(band)];
    map = Image::unset(1, variance.size());
    for (std::size_t i = 0; i < map.pixels().size(); ++i) {
      const float less = band == 0 ? 1 : 1 + maps[0].pixels()[i];
      map.pixels()[i] = gain_of(wanted.pixels()[i], both.pixels()[i], made.pixels()[i],
                                of_noise * variance.pixels()[i]) -
                        less;
    }
  }
  return maps;
}

}  // namespace

void add_band_gains(const BandGainInput& in, Rect inner, ConstView share, MutableView to) {
  const FrequencyBands shares(in.transfer);
  const auto maps = gains(in, shares, inner);
  // the first band, which has most of the frequencies, is what the others leave
  std::array<int, bands - 1> filled{};
  for (int band = 1; band < bands; ++band)
    filled[static_cast<std::size_t>(band - 1)] = shares.filled(band);
  const auto fill = [&](int part, int kx, std::span<Complex> out) {
    const auto made = in.made.line(kx), recorded = in.recorded.line(kx);
    const auto places = shares.places(kx);
    for (std::size_t ky = 0; ky < out.size(); ky += complex_lane_count) {
      const std::size_t count = std::min(complex_lane_count, out.size() - ky);
      const FloatLanes change = load_some(&made[ky], count) - load_some(&recorded[ky], count);
      store_some(&out[ky], share_of_band(part + 1, doubled(&places[ky], count)) * change, count);
    }
  };
  BlockReader gain(maps, inner.size(), reach_px);
  rows_from_columns(
      bands - 1, in.hidden.size(), inner, fill,
      [&](int first, ConstView rows) {
        for (int i = 0; i < rows.height(); ++i) {
          const int y = first + i;
          gain.go_to(y);
          std::array<const float*, bands> values{&in.changes(0, inner.y + y, inner.x)};
          for (int band = 1; band < bands; ++band)
            values[static_cast<std::size_t>(band)] = rows.row(band - 1, i).data();
          gain.add_products(values, share.row(0, y), to.row(0, y));
        }
      },
      filled);
}

}  // namespace limpid
