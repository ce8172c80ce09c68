#include "restore/missing_light.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/box_mean.h"
#include "core/complex_lanes.h"
#include "restore/geometry.h"
#include "restore/reblur.h"

namespace limpid {
namespace {

/// Of the filter conj(H) / (|H|^2 + lambda): the first band is what the first lets through, the
/// second the difference between both.
constexpr std::array<float, 2> lambdas{0.3F, 0.03F};
constexpr int bands = static_cast<int>(lambdas.size());
constexpr int half_window_px = 4;  // in which differences are told from noise
constexpr int half_soft_px = 2;    // over which their share changes
constexpr float noise_powers = 2;  // so much of a window's power is taken for noise
constexpr float modest_share = 0.2F, immodest_share = 0.4F;  // of the structure around, rms
constexpr float invented_share = 0.3F, seen_share = 0.5F;    // of it that the record shows
constexpr float most_share = 0.2F, most_sigma = 3;  // of the light around, that a pixel may change

template <typename Power>
Power band_filter(Power power, int band) {
  const auto at = static_cast<std::size_t>(band);
  const Power own = 1 / (power + lambdas[at]);
  return band == 0 ? own : own - 1 / (power + lambdas[at - 1]);
}

/// Squares of what a plane, which `make` makes row by row, has over its means of 9 x 9 px, in the
/// mean of as many. The light of a row is known until the next is asked for.
template <typename Make>
auto structure_rows(Size size, Make make) {
  return BoxMeanRows(size, half_window_px,
                     [plane = BoxMeanRows(size, half_window_px, std::move(make))](
                         int y, std::span<float> squares) mutable {
                       const auto means = plane.row(y);
                       const auto value = plane.made(y);
                       for (std::size_t x = 0; x < squares.size(); ++x)
                         squares[x] = (value[x] - means[x]) * (value[x] - means[x]);
                     });
}

/// How much of one band of what is missing stands out from noise: rows of shares.
auto share_rows(ConstView band, ConstView shown, const NoiseVariance& variance, float noise_power) {
  const auto square = [band](int y, std::span<float> squares) {
    const auto from = band.row(0, y);
    for (std::size_t x = 0; x < squares.size(); ++x) squares[x] = from[x] * from[x];
  };
  return BoxMeanRows(band.size(), half_soft_px,
                     [=, power_rows = BoxMeanRows(band.size(), half_window_px, square)](
                         int y, std::span<float> share) mutable {
                       const auto power = power_rows.row(y);
                       const auto light = shown.row(0, y);
                       // copies, of which no row can be a part
                       const NoiseVariance own_variance = variance;
                       const float powers = noise_powers * noise_power;
                       for (std::size_t x = 0; x < share.size(); ++x) {
                         const float of_noise = powers * own_variance(light[x]);
                         share[x] = power[x] > of_noise ? 1 - of_noise / power[x] : 0;
                       }
                     });
}

/// How far the structure of a change is over the share of the result's own that is modest. Returns
/// whether it is anywhere, which is seldom.
bool exceeds_modesty(std::span<const float> changes, std::span<const float> made,
                     std::span<float> excess) {
  int any = 0;
  for (std::size_t x = 0; x < excess.size(); ++x) {
    excess[x] = changes[x] - modest_share * modest_share * made[x];
    any |= excess[x] > 0 ? 1 : 0;
  }
  return any != 0;
}

/// Where the structure of a change would be large beside the result's own, and the record shows
/// some beside its noise, the network has seen something else: a star that was not detected.
/// Nothing is changed.
void keep_modest(std::span<const float> excess, std::span<const float> changes,
                 std::span<const float> made, std::span<const float> recorded,
                 std::span<const float> shown, const NoiseVariance& variance,
                 std::span<float> change) {
  for (std::size_t x = 0; x < change.size(); ++x) {
    if (excess[x] <= 0) continue;
    const float own = std::max(1e-20F, made[x]);
    const float modest = falling(std::sqrt(changes[x] / own), modest_share, immodest_share);
    const float seen = recorded[x] - variance(shown[x]);
    const float invented =
        falling(std::sqrt(std::max(0.0F, seen) / own), invented_share, seen_share);
    change[x] *= std::max(modest, invented);
  }
}

/// No pixel changes by more than its share of the light around it.
void limit(std::span<const float> around, SkyLevel sky, std::span<float> change) {
  for (std::size_t x = 0; x < change.size(); ++x) {
    const float by = change[x],
                most = most_sigma * sky.sigma + most_share * std::max(0.0F, around[x] - sky.sky),
                both = std::sqrt(most * most + by * by);
    change[x] = both > 0 ? by * most / both : 0;
  }
}

/// What is missing in one channel, all of one row at a time. `filtered`: its bands, of `wide`.
void add_missing(const MissingLightInput& tile, int channel,
                 const std::array<ConstView, bands>& filtered,
                 const std::array<double, bands>& noise_power, Rect place, const NoiseModel& noise,
                 MutableView change) {
  constexpr int off = half_window_px + half_soft_px;
  const NoiseVariance variance(noise, channel);
  const ConstView wide_light = tile.shown.channel(channel).crop(grown(place, off)),
                  light = tile.shown.channel(channel).crop(place);
  const auto shares_of = [&](std::size_t band) {
    return share_rows(filtered[band], wide_light, variance, static_cast<float>(noise_power[band]));
  };
  auto first = shares_of(0), second = shares_of(1);
  const auto make = [&](int y, std::span<float> row) {
    const float *share = first.row(y + off).data() + off, *other = second.row(y + off).data() + off;
    const float *band = &filtered[0](0, y + off, off), *sharper = &filtered[1](0, y + off, off);
    const auto out = change.row(0, y);
    for (std::size_t x = 0; x < row.size(); ++x)
      row[x] = out[x] = other[x] * sharper[x] + share[x] * band[x];
  };
  auto recorded = structure_rows(place.size(), rows_of(tile.before.channel(channel).crop(place))),
       made = structure_rows(place.size(), rows_of(tile.after.channel(channel).crop(place)));
  auto changes = structure_rows(place.size(), make);
  BoxMeanRows around(place.size(), half_window_px, rows_of(light));
  std::vector<float> excess(static_cast<std::size_t>(place.width));
  for (int y = 0; y < place.height; ++y) {
    const auto of_change = changes.row(y);  // which makes the change as far as it reaches
    const auto of_result = made.row(y), row = change.row(0, y);
    if (exceeds_modesty(of_change, of_result, excess)) {
      keep_modest(excess, of_change, of_result, recorded.row(y), light.row(0, y), variance, row);
    }
    limit(around.row(y), noise.sky[static_cast<std::size_t>(channel)], row);
  }
}

/// What of white noise each band shows of the differences between record and result.
std::array<double, bands> noise_power(const ColumnSpectrum& passing, int channel) {
  const Size size = passing.size();
  std::array<double, bands> sums{};
  for (int kx = 0; kx < passing.columns(); ++kx) {
    const double twice = kx == 0 || 2 * kx == size.width ? 1 : 2;
    const auto column = passing.column(channel, kx);
    std::array<FloatLanes, bands> column_sums{};  // of every value twice, for its two parts
    for (std::size_t ky = 0; ky < column.size(); ky += complex_lane_count) {
      const std::size_t count = std::min(complex_lane_count, column.size() - ky);
      const FloatLanes transfer = load_some(&column[ky], count), power = powers(transfer),
                       lost = power * powers(real_part - transfer);
      for (int band = 0; band < bands; ++band) {
        const FloatLanes filter = band_filter(power, band);
        column_sums[static_cast<std::size_t>(band)] += filter * filter * lost;
      }
    }
    for (std::size_t band = 0; band < sums.size(); ++band) {
      for (int i = 0; i < float_lane_count; ++i)
        sums[band] += twice / 2 * static_cast<double>(column_sums[band][i]);
    }
  }
  for (double& sum : sums) sum /= static_cast<double>(size.pixels());
  return sums;
}

}  // namespace

ColumnSpectrum passing(const TileControls& controls, int channels, Size size) {
  std::vector<Image> kernels;
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c)
    kernels.push_back(controls.nonstellar_kernel(c));
  kernels.push_back(wanted_psfs(controls).nonstellar.kernel(psf_kernel_px));
  ColumnSpectrum transfer = column_transfer(kernels, size);
  for (int c = 0; c < channels; ++c) {
    for (int kx = 0; kx < transfer.columns(); ++kx) {
      const auto into = transfer.column(c, kx);
      const auto out = transfer.column(channels, kx);
      for (std::size_t ky = 0; ky < into.size(); ky += complex_lane_count) {
        const std::size_t count = std::min(complex_lane_count, into.size() - ky);
        store_some(&into[ky], blurred_back(load_some(&into[ky], count), load_some(&out[ky], count)),
                   count);
      }
    }
  }
  return transfer;
}

Image missing_light(const MissingLightInput& tile, Rect place, const ColumnSpectrum& passing,
                    const NoiseModel& noise) {
  const int channels = tile.before.channels();
  const Rect wide = grown(place, half_window_px + half_soft_px);
  const ColumnSpectrum missing = column_fft(tile.difference);
  const Image filtered = image_from_columns(
      bands * channels, tile.before.size(), wide,
      [&](int plane, int kx, auto out) {
        const int c = plane % channels;
        const auto from = missing.column(c, kx), transfer = passing.column(c, kx);
        for (std::size_t ky = 0; ky < out.size(); ky += complex_lane_count) {
          const std::size_t count = std::min(complex_lane_count, out.size() - ky);
          const FloatLanes by = load_some(&transfer[ky], count);
          store_some(&out[ky],
                     product(load_some(&from[ky], count), conjugate(by)) *
                         band_filter(powers(by), plane / channels),
                     count);
        }
      },
      {.sources = channels});
  Image change = Image::unset(channels, place.size());
  for (int c = 0; c < channels; ++c) {
    add_missing(tile, c, {filtered.view().channel(c), filtered.view().channel(channels + c)},
                noise_power(passing, c), place, noise, change.view().channel(c));
  }
  return change;
}

}  // namespace limpid
