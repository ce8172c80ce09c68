#include "restore/nebula_consistency.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/box_mean.h"
#include "core/fft.h"
#include "core/fft_columns.h"
#include "core/parallel.h"
#include "restore/band_gains.h"
#include "restore/geometry.h"
#include "restore/hidden_lights.h"
#include "restore/normalise.h"
#include "restore/reblur.h"

namespace limpid {
namespace {

/// Of the filter conj(H) / (|H|^2 + lambda): the first band is what the first lets through, the
/// second the difference between both.
constexpr std::array<float, 2> lambdas{0.3F, 0.03F};
constexpr int bands = static_cast<int>(lambdas.size());
constexpr int tile_px = 544;       // at most; 640 with the margins
constexpr int margin_px = 48;      // of a tile: blurring reaches 32, the filters some 16
constexpr int rim_px = 24;         // of the margin; what is blurred there comes from elsewhere
constexpr int half_window_px = 4;  // in which differences are told from noise
constexpr int half_soft_px = 2;    // over which their share changes
constexpr float noise_powers = 2;  // so much of a window's power is taken for noise
constexpr int block_px = 4;
constexpr float certain_sigma = 3;  // a tile in which no block is so far off is in agreement
constexpr float edge_fwhm = 0.5F, sure_fwhm = 2.5F;  // from the frame's edge
constexpr float sharp_sigma = 4;                     // of a difference that no PSF makes
constexpr float spreading_defect = 2;  // times that: its light, blurred, is seen around it
constexpr int defect_reach_px = 3;
constexpr float modest_share = 0.2F, immodest_share = 0.4F;  // of the structure around, rms
constexpr float invented_share = 0.3F, seen_share = 0.5F;    // of it that the record shows
constexpr float most_share = 0.2F, most_sigma = 3;  // of the light around, that a pixel may change
constexpr float seen_sigma = 0.5F;                  // of a change that counts

/// A tile with its margins. What is hidden is filled from around it.
struct Tile {
  Rect around;  ///< in the frame
  Rect inner;   ///< of `around`
  Image before, after;
  Image hidden;  ///< not 0 where nothing is compared
};

/// The part of `around` that is compared with the record: more than the inner one, whose gains are
/// told by what changes around it.
constexpr int judged_px = margin_px - rim_px;
Rect judged(const Tile& tile) { return grown(tile.inner, judged_px); }
/// The inner part of what is made for the judged one.
template <typename View>
View inner_of(const Tile& tile, View of_judged) {
  return of_judged.crop({judged_px, judged_px, tile.inner.width, tile.inner.height});
}

/// Weight of a tile's differences: 0 where something is hidden, at the rim and at the frame's edge,
/// since what shines in from outside is not known.
Image weight_of(const Tile& tile, Size frame, float fwhm_px) {
  Image weight = box_mean(tile.hidden.view(), half_soft_px);
  const auto nearest = [](int x, int y, Size size) {
    return static_cast<float>(std::min({x, y, size.width - 1 - x, size.height - 1 - y}));
  };
  for_pixels({0, 0, tile.around.width, tile.around.height}, [&](int x, int y) {
    float& w = weight.view()(0, y, x);
    const float rim = nearest(x, y, tile.around.size()),
                edge = nearest(tile.around.x + x, tile.around.y + y, frame);
    w = tile.hidden.view()(0, y, x) != 0
            ? 0
            : std::max(0.0F, 1 - 2 * w) * (1 - falling(rim, rim_px, margin_px - 8)) *
                  (1 - falling(edge, edge_fwhm * fwhm_px, sure_fwhm * fwhm_px));
  });
  return weight;
}

/// What takes a result to the record, per channel, and what of white noise each band shows of the
/// differences between them.
struct Passing {
  ColumnSpectrum transfer;
  std::vector<std::array<double, bands>> noise_power;
};

float band_filter(float power, int band) {
  const auto at = static_cast<std::size_t>(band);
  const float own = 1 / (power + lambdas[at]);
  return band == 0 ? own : own - 1 / (power + lambdas[at - 1]);
}

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

/// Whether some block differs by more than noise does.
bool differs(ConstView difference, ConstView blurred, int channel, const NoiseVariance& variance) {
  for (int y0 = 0; y0 + block_px <= difference.height(); y0 += block_px) {
    for (int x0 = 0; x0 + block_px <= difference.width(); x0 += block_px) {
      float sum = 0;
      for_pixels({x0, y0, block_px, block_px},
                 [&](int x, int y) { sum += difference(channel, y, x); });
      const float sigma =
          block_px * std::sqrt(variance(blurred(channel, y0 + block_px / 2, x0 + block_px / 2)));
      if (std::abs(sum) > certain_sigma * sigma) return true;
    }
  }
  return false;
}

/// The result as the measured PSF would show it.
Image blurred(const Tile& tile, const Passing& pass) {
  const Size size = tile.around.size();
  const ColumnSpectrum light = column_fft(tile.after.view());
  return image_from_columns(
      tile.after.channels(), size, {0, 0, size.width, size.height}, [&](int c, int kx, auto out) {
        const auto from = light.column(c, kx), transfer = pass.transfer.column(c, kx);
        for (std::size_t ky = 0; ky < out.size(); ++ky) out[ky] = from[ky] * transfer[ky];
      });
}

/// Record less blurred result, weighted.
Image difference_of(const Tile& tile, ConstView shown, ConstView weight) {
  Image difference = copy(tile.before.view());
  for (int c = 0; c < difference.channels(); ++c) {
    for (int y = 0; y < difference.height(); ++y) {
      const auto w = weight.row(0, y), blurred_row = shown.row(c, y);
      const auto row = difference.view().row(c, y);
      for (std::size_t x = 0; x < row.size(); ++x) row[x] = w[x] * (row[x] - blurred_row[x]);
    }
  }
  return difference;
}

/// Adds to what is hidden where differences are sharper than any PSF makes them: dead rows, hot and
/// cold pixels, cosmic rays. Returns how far the worst is over the threshold, 0 where there is
/// none.
float hide_defects(Tile& tile, ConstView difference, ConstView shown, const NoiseModel& noise) {
  Image flags(1, tile.around.size());
  float worst = 0;
  for (int c = 0; c < difference.channels(); ++c) {
    const NoiseVariance variance(noise, c);
    const Image mean = box_mean(difference.channel(c), 1);
    for_pixels({0, 0, flags.width(), flags.height()}, [&](int x, int y) {
      const float smooth = mean.view()(0, y, x), sharp = std::abs(difference(c, y, x) - smooth);
      const float most =
          sharp_sigma * std::sqrt(variance(shown(c, y, x))) + 0.5F * std::abs(smooth);
      if (sharp < most) return;
      flags.view()(0, y, x) = 1;
      worst = std::max(worst, sharp / std::max(most, 1e-20F));
    });
  }
  if (worst > 0) add_flags(tile.hidden, near_flags(flags, defect_reach_px));
  return worst;
}

/// Adds one band of what is missing, as far as it stands out from noise.
void add_band(ConstView band, ConstView shown, const NoiseVariance& variance, float noise_power,
              MutableView change) {
  constexpr int off = half_window_px + half_soft_px;
  Image share(1, band.size());
  for_pixels({0, 0, band.width(), band.height()},
             [&](int x, int y) { share.view()(0, y, x) = band(0, y, x) * band(0, y, x); });
  share = box_mean(share.view(), half_window_px);
  for_pixels({0, 0, band.width(), band.height()}, [&](int x, int y) {
    float& power = share.view()(0, y, x);
    const float of_noise = noise_powers * noise_power * variance(shown(0, y, x));
    power = power > of_noise ? 1 - of_noise / power : 0;
  });
  share = box_mean(share.view(), half_soft_px);
  for_pixels({0, 0, change.width(), change.height()}, [&](int x, int y) {
    change(0, y, x) += share.view()(0, y + off, x + off) * band(0, y + off, x + off);
  });
}

/// Squares of what a plane has over its means of 9 x 9 px, in the mean of as many.
Image structure_of(ConstView plane) {
  Image squares = box_mean(plane, half_window_px);
  for_pixels({0, 0, plane.width(), plane.height()}, [&](int x, int y) {
    float& value = squares.view()(0, y, x);
    value = (plane(0, y, x) - value) * (plane(0, y, x) - value);
  });
  return box_mean(squares.view(), half_window_px);
}

/// Where the structure of a change would be large beside the result's own, and the record shows
/// some beside its noise, the network has seen something else: a star that was not detected.
/// Nothing is changed.
void keep_modest(ConstView before, ConstView after, ConstView shown, const NoiseVariance& variance,
                 MutableView change) {
  const Image recorded = structure_of(before), made = structure_of(after),
              changes = structure_of(change);
  for_pixels({0, 0, after.width(), after.height()}, [&](int x, int y) {
    const float own = std::max(1e-20F, made.view()(0, y, x));
    const float modest =
        falling(std::sqrt(changes.view()(0, y, x) / own), modest_share, immodest_share);
    const float seen = recorded.view()(0, y, x) - variance(shown(0, y, x));
    const float invented =
        falling(std::sqrt(std::max(0.0F, seen) / own), invented_share, seen_share);
    change(0, y, x) *= std::max(modest, invented);
  });
}

/// Whether the record shows nothing but even sky and the result nothing else.
bool without_structure(const Tile& tile, const NoiseModel& noise) {
  constexpr float even_sigma = 4;
  for (int c = 0; c < tile.before.channels(); ++c) {
    const float sigma = noise.correlation * noise.sky[static_cast<std::size_t>(c)].sigma;
    const ConstView before = tile.before.view(), after = tile.after.view();
    float lowest = INFINITY, highest = -INFINITY;
    for (int y0 = 0; y0 + block_px <= before.height(); y0 += block_px) {
      for (int x0 = 0; x0 + block_px <= before.width(); x0 += block_px) {
        float recorded = 0, made = 0;
        for_pixels({x0, y0, block_px, block_px}, [&](int x, int y) {
          recorded += before(c, y, x);
          made += after(c, y, x);
        });
        if (std::abs(made - recorded) > certain_sigma * block_px * sigma) return false;
        lowest = std::min(lowest, recorded);
        highest = std::max(highest, recorded);
      }
    }
    if (highest - lowest > 2 * even_sigma * block_px * sigma) return false;
  }
  return true;
}

/// Adds what the result lacks, sharpened, as far as it stands out from noise. `change`: of the
/// judged part.
void add_missing(const Tile& tile, const Passing& pass, ConstView difference, ConstView shown,
                 const NoiseModel& noise, MutableView change) {
  const int channels = change.channels();
  const Rect place = judged(tile), wide = grown(place, half_window_px + half_soft_px);
  const ColumnSpectrum missing = column_fft(difference);
  const Image filtered = image_from_columns(
      bands * channels, tile.around.size(), wide, [&](int plane, int kx, auto out) {
        const int c = plane % channels;
        const auto from = missing.column(c, kx), transfer = pass.transfer.column(c, kx);
        for (std::size_t ky = 0; ky < out.size(); ++ky) {
          out[ky] = from[ky] * std::conj(transfer[ky]) *
                    band_filter(std::norm(transfer[ky]), plane / channels);
        }
      });
  for (int c = 0; c < channels; ++c) {
    const NoiseVariance variance(noise, c);
    const ConstView light = shown.channel(c);
    for (int band = 0; band < bands; ++band) {
      const double power =
          pass.noise_power[static_cast<std::size_t>(c)][static_cast<std::size_t>(band)];
      add_band(filtered.view().channel(band * channels + c), light.crop(wide), variance,
               static_cast<float>(power), change.channel(c));
    }
    keep_modest(tile.before.view().channel(c).crop(place), tile.after.view().channel(c).crop(place),
                light.crop(place), variance, change.channel(c));
    const SkyLevel sky = noise.sky[static_cast<std::size_t>(c)];
    const Image around = box_mean(light.crop(place), half_window_px);
    for_pixels({0, 0, place.width, place.height}, [&](int x, int y) {
      float& by = change(c, y, x);
      const float most =
          most_sigma * sky.sigma + most_share * std::max(0.0F, around.view()(0, y, x) - sky.sky);
      const float both = std::sqrt(most * most + by * by);
      by = both > 0 ? by * most / both : 0;
    });
  }
}

/// Whether the network changed some block of one channel by enough to be seen.
bool changes_something(ConstView changes, float sigma) {
  constexpr int side = 16;
  constexpr float least_sigma = 0.3F;
  for (int y0 = 0; y0 + side <= changes.height(); y0 += side) {
    for (int x0 = 0; x0 + side <= changes.width(); x0 += side) {
      float squares = 0;
      for (int y = y0; y < y0 + side; ++y) {
        for (const float by : changes.row(0, y).subspan(static_cast<std::size_t>(x0), side))
          squares += by * by;
      }
      if (squares > side * side * least_sigma * least_sigma * sigma * sigma) return true;
    }
  }
  return false;
}

/// Adds what was changed too much or too little. `change`: of the judged part; the inner one is
/// mended.
void add_gains(const Tile& tile, const Passing& pass, ConstView shown, ConstView weight,
               const NoiseModel& noise, MutableView change) {
  Image changes = tile.after.clone();
  std::ranges::transform(changes.pixels(), tile.before.pixels(), changes.pixels().begin(),
                         std::minus<>());
  const MutableView changed_here = changes.view().crop(judged(tile));
  std::vector<int> changed_channels;
  for (int c = 0; c < change.channels(); ++c) {
    for_pixels({0, 0, change.width(), change.height()},
               [&](int x, int y) { changed_here(c, y, x) += change(c, y, x); });
    if (changes_something(changes.view().channel(c), noise.sky[static_cast<std::size_t>(c)].sigma))
      changed_channels.push_back(c);
  }
  if (changed_channels.empty()) return;
  const ColumnSpectrum recorded = column_fft(tile.before.view()),
                       changed = column_fft(changes.view());
  for (const int c : changed_channels) {
    const Image added = band_gains({.changes = changes.view().channel(c),
                                    .shown = shown.channel(c),
                                    .hidden = tile.hidden.view(),
                                    .recorded = recorded,
                                    .changed = changed,
                                    .transfer = pass.transfer,
                                    .channel = c,
                                    .variance = NoiseVariance(noise, c),
                                    .correlation = noise.correlation},
                                   tile.inner);
    const MutableView inner = inner_of(tile, change).channel(c);
    const ConstView share = weight.crop(tile.inner);
    for_pixels({0, 0, tile.inner.width, tile.inner.height},
               [&](int x, int y) { inner(0, y, x) += share(0, y, x) * added.view()(0, y, x); });
  }
}

/// What is to be added to the inner part; empty where nothing is.
Image change_of(Tile tile, Size frame, float fwhm_px, const NoiseModel& noise,
                const TileControls& controls) {
  const int channels = tile.before.channels();
  const auto fill = [&tile] {
    if (std::ranges::none_of(tile.hidden.pixels(), [](float m) { return m != 0; })) return;
    fill_missing(tile.before.view(), tile.hidden.view());
    fill_missing(tile.after.view(), tile.hidden.view());
  };
  fill();
  if (without_structure(tile, noise)) return {};
  const Passing pass = passing(controls, channels, tile.around.size());
  Image shown = blurred(tile, pass), weight = weight_of(tile, frame, fwhm_px),
        difference = difference_of(tile, shown.view(), weight.view());
  const auto agrees = [&] {
    for (int c = 0; c < channels; ++c) {
      if (differs(difference.view(), shown.view(), c, NoiseVariance(noise, c))) return false;
    }
    return true;
  };
  bool agreed = agrees();
  const float worst = agreed ? 0 : hide_defects(tile, difference.view(), shown.view(), noise);
  if (worst > 0) {
    if (worst > spreading_defect) {
      fill();
      shown = blurred(tile, pass);
    }
    weight = weight_of(tile, frame, fwhm_px);
    difference = difference_of(tile, shown.view(), weight.view());
    agreed = agrees();
  }
  Image change(channels, judged(tile).size());
  if (!agreed) add_missing(tile, pass, difference.view(), shown.view(), noise, change.view());
  add_gains(tile, pass, shown.view(), weight.view(), noise, change.view());
  return copy(inner_of(tile, change.view()));
}

}  // namespace

double make_nebulae_consistent(const RestoredPart& known, const NoiseModel& noise,
                               const std::function<TileControls(float x, float y)>& controls_at,
                               MutableView after) {
  const ConstView before = known.before.crop(known.part);
  const int columns = (before.width() + tile_px - 1) / tile_px,
            rows = (before.height() + tile_px - 1) / tile_px;
  const Size inner{(before.width() + columns - 1) / columns, (before.height() + rows - 1) / rows};
  const Size size{good_fft_length(inner.width + 2 * margin_px),
                  good_fft_length(inner.height + 2 * margin_px)};
  std::size_t changed = 0;
  const auto add = [&](const std::vector<Image>& changes, int row) {
    for (int i = 0; i < static_cast<int>(changes.size()); ++i) {
      const Image& change = changes[static_cast<std::size_t>(i)];
      if (change.empty()) continue;
      const Rect place = intersect({i * inner.width, row * inner.height, inner.width, inner.height},
                                   {0, 0, after.width(), after.height()});
      for_pixels({0, 0, place.width, place.height}, [&](int x, int y) {
        bool seen = false;
        for (int c = 0; c < after.channels(); ++c) {
          const float by = change.view()(c, y, x);
          after(c, place.y + y, place.x + x) += by;
          seen = seen || std::abs(by) > seen_sigma * noise.sky[static_cast<std::size_t>(c)].sigma;
        }
        changed += seen ? 1 : 0;
      });
    }
  };
  // a row is changed once the next one has seen it as it was
  std::vector<Image> waiting;
  for (int row = 0; row < rows; ++row) {
    std::vector<Image> changes(static_cast<std::size_t>(columns));
    parallel_for(columns, known.threads, [&](int i) {
      const Rect place{i * inner.width, row * inner.height, inner.width, inner.height};
      const Rect around{place.x - margin_px, place.y - margin_px, size.width, size.height};
      const Rect in_frame{around.x + known.part.x, around.y + known.part.y, size.width,
                          size.height};
      Tile tile{
          .around = in_frame,
          .inner = {margin_px, margin_px, size.width - 2 * margin_px, size.height - 2 * margin_px},
          .before = extract_mirrored(before, around),
          .after = extract_mirrored(after, around),
          .hidden = {}};
      tile.hidden = lights_to_hide(tile.before.view(), in_frame, known.catalogue, known.fwhm_px);
      if (std::ranges::all_of(tile.hidden.pixels(), [](float m) { return m != 0; })) return;
      const auto middle = [](int from, int length) {
        return static_cast<float>(from) + static_cast<float>(length) / 2;
      };
      changes[static_cast<std::size_t>(i)] =
          change_of(std::move(tile), known.before.size(), known.fwhm_px, noise,
                    controls_at(middle(known.part.x + place.x, place.width),
                                middle(known.part.y + place.y, place.height)));
    });
    if (row > 0) add(waiting, row - 1);
    waiting = std::move(changes);
  }
  add(waiting, rows - 1);
  return static_cast<double>(changed) / static_cast<double>(after.size().pixels());
}

}  // namespace limpid
