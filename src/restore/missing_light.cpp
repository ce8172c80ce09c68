#include "restore/missing_light.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/box_mean.h"
#include "restore/geometry.h"
#include "restore/reblur.h"

namespace limpid {
namespace {

constexpr int bands = static_cast<int>(missing_light_lambdas.size());
constexpr int half_window_px = 4;  // in which differences are told from noise
constexpr int half_soft_px = 2;    // over which their share changes
constexpr float noise_powers = 2;  // so much of a window's power is taken for noise
constexpr float modest_share = 0.2F, immodest_share = 0.4F;  // of the structure around, rms
constexpr float invented_share = 0.3F, seen_share = 0.5F;    // of it that the record shows
constexpr float most_share = 0.2F, most_sigma = 3;  // of the light around, that a pixel may change

float band_filter(float power, int band) {
  const auto at = static_cast<std::size_t>(band);
  const float own = 1 / (power + missing_light_lambdas[at]);
  return band == 0 ? own : own - 1 / (power + missing_light_lambdas[at - 1]);
}

/// Adds one band of what is missing, as far as it stands out from noise.
void add_band(ConstView band, ConstView shown, const NoiseVariance& variance, float noise_power,
              MutableView change) {
  constexpr int off = half_window_px + half_soft_px;
  Image share = Image::unset(1, band.size());
  for (int y = 0; y < band.height(); ++y) {
    const auto from = band.row(0, y);
    const auto out = share.view().row(0, y);
    for (std::size_t x = 0; x < out.size(); ++x) out[x] = from[x] * from[x];
  }
  share = box_mean(share.view(), half_window_px);
  for (int y = 0; y < band.height(); ++y) {
    const auto light = shown.row(0, y);
    const auto power = share.view().row(0, y);
    for (std::size_t x = 0; x < power.size(); ++x) {
      const float of_noise = noise_powers * noise_power * variance(light[x]);
      power[x] = power[x] > of_noise ? 1 - of_noise / power[x] : 0;
    }
  }
  share = box_mean(share.view(), half_soft_px);
  for (int y = 0; y < change.height(); ++y) {
    const float *part = &share.view()(0, y + off, off), *from = &band(0, y + off, off);
    const auto out = change.row(0, y);
    for (std::size_t x = 0; x < out.size(); ++x) out[x] += part[x] * from[x];
  }
}

/// Squares of what a plane has over its means of 9 x 9 px, in the mean of as many.
Image structure_of(ConstView plane) {
  Image squares = box_mean(plane, half_window_px);
  for (int y = 0; y < plane.height(); ++y) {
    const auto from = plane.row(0, y);
    const auto out = squares.view().row(0, y);
    for (std::size_t x = 0; x < out.size(); ++x) out[x] = (from[x] - out[x]) * (from[x] - out[x]);
  }
  return box_mean(squares.view(), half_window_px);
}

/// Where the structure of a change would be large beside the result's own, and the record shows
/// some beside its noise, the network has seen something else: a star that was not detected.
/// Nothing is changed.
void keep_modest(ConstView before, ConstView after, ConstView shown, const NoiseVariance& variance,
                 MutableView change) {
  const Image recorded = structure_of(before), made = structure_of(after),
              changes = structure_of(change);
  constexpr float modest_power = modest_share * modest_share;
  // few pixels change so much: rows are looked through at once
  std::vector<float> excess(static_cast<std::size_t>(change.width()));
  for (int y = 0; y < change.height(); ++y) {
    const auto of_change = changes.view().row(0, y), of_made = made.view().row(0, y);
    for (std::size_t x = 0; x < excess.size(); ++x)
      excess[x] = of_change[x] - modest_power * of_made[x];
    const auto of_record = recorded.view().row(0, y), light = shown.row(0, y);
    const auto out = change.row(0, y);
    for (std::size_t x = 0; x < excess.size(); ++x) {
      if (excess[x] <= 0) continue;
      const float own = std::max(1e-20F, of_made[x]);
      const float modest = falling(std::sqrt(of_change[x] / own), modest_share, immodest_share);
      const float seen = of_record[x] - variance(light[x]);
      const float invented =
          falling(std::sqrt(std::max(0.0F, seen) / own), invented_share, seen_share);
      out[x] *= std::max(modest, invented);
    }
  }
}

/// No pixel changes by more than its share of the light around it.
void limit(ConstView shown, SkyLevel sky, MutableView change) {
  const Image around = box_mean(shown, half_window_px);
  for (int y = 0; y < change.height(); ++y) {
    const auto light = around.view().row(0, y);
    const auto by = change.row(0, y);
    for (std::size_t x = 0; x < by.size(); ++x) {
      const float most = most_sigma * sky.sigma + most_share * std::max(0.0F, light[x] - sky.sky);
      const float both = std::sqrt(most * most + by[x] * by[x]);
      by[x] = both > 0 ? by[x] * most / both : 0;
    }
  }
}

}  // namespace

Passing passing(const TileControls& controls, int channels, Size size) {
  std::vector<Image> kernels;
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c)
    kernels.push_back(controls.nonstellar_kernel(c));
  kernels.push_back(wanted_psfs(controls).nonstellar.kernel(psf_kernel_px));
  Passing p{column_transfer(kernels, size),
            std::vector<std::array<double, bands>>(static_cast<std::size_t>(channels))};
  for (int c = 0; c < channels; ++c) {
    auto& sums = p.noise_power[static_cast<std::size_t>(c)];
    for (int kx = 0; kx < p.transfer.columns(); ++kx) {
      const double twice = kx == 0 || 2 * kx == size.width ? 1 : 2;
      const auto into = p.transfer.column(c, kx);
      const auto out = p.transfer.column(channels, kx);
      for (std::size_t ky = 0; ky < into.size(); ++ky) {
        into[ky] = blurred_back(1, into[ky], out[ky]);
        const float power = std::norm(into[ky]), lost = power * std::norm(1.0F - into[ky]);
        for (int band = 0; band < bands; ++band) {
          const float filter = band_filter(power, band);
          sums[static_cast<std::size_t>(band)] +=
              twice * static_cast<double>(filter * filter * lost);
        }
      }
    }
    for (double& sum : sums) sum /= static_cast<double>(size.pixels());
  }
  return p;
}

Image missing_light(const MissingLightInput& tile, Rect place, const Passing& pass,
                    const NoiseModel& noise) {
  const int channels = tile.before.channels();
  const Rect wide = grown(place, half_window_px + half_soft_px);
  const ColumnSpectrum missing = column_fft(tile.difference);
  const Image filtered = image_from_columns(
      bands * channels, tile.before.size(), wide, [&](int plane, int kx, auto out) {
        const int c = plane % channels;
        const auto from = missing.column(c, kx), transfer = pass.transfer.column(c, kx);
        for (std::size_t ky = 0; ky < out.size(); ++ky) {
          out[ky] = from[ky] * std::conj(transfer[ky]) *
                    band_filter(std::norm(transfer[ky]), plane / channels);
        }
      });
  Image change(channels, place.size());
  for (int c = 0; c < channels; ++c) {
    const NoiseVariance variance(noise, c);
    const ConstView light = tile.shown.channel(c);
    const MutableView here = change.view().channel(c);
    for (int band = 0; band < bands; ++band) {
      const double power =
          pass.noise_power[static_cast<std::size_t>(c)][static_cast<std::size_t>(band)];
      add_band(filtered.view().channel(band * channels + c), light.crop(wide), variance,
               static_cast<float>(power), here);
    }
    keep_modest(tile.before.channel(c).crop(place), tile.after.channel(c).crop(place),
                light.crop(place), variance, here);
    limit(light.crop(place), noise.sky[static_cast<std::size_t>(c)], here);
  }
  return change;
}

}  // namespace limpid
