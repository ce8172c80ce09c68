#include "restore/nebula_consistency.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/box_mean.h"
#include "core/complex_lanes.h"
#include "core/fft.h"
#include "core/fft_columns.h"
#include "core/parallel.h"
#include "restore/band_gains.h"
#include "restore/geometry.h"
#include "restore/hidden_lights.h"
#include "restore/missing_light.h"
#include "restore/normalise.h"

namespace limpid {
namespace {

constexpr int tile_px = 544;     // at most; 640 with the margins
constexpr int margin_px = 48;    // of a tile: blurring reaches 32, the filters some 16
constexpr int rim_px = 24;       // of the margin; what is blurred there comes from elsewhere
constexpr int half_soft_px = 2;  // over which what is hidden fades in
constexpr int block_px = 4;
constexpr float certain_sigma = 3;  // a tile in which no block is so far off is in agreement
constexpr float edge_fwhm = 0.5F, sure_fwhm = 2.5F;  // from the frame's edge
constexpr float sharp_sigma = 4;                     // of a difference that no PSF makes
constexpr float spreading_defect = 2;  // times that: its light, blurred, is seen around it
constexpr int defect_reach_px = 3;
constexpr float seen_sigma = 0.5F;  // of a change that counts

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

/// Along one side of a tile, what counts: not the rim, whose surroundings are not known, nor the
/// frame's edge, from beyond which light shines in.
struct WeightsAlong {
  std::vector<float> rim, edge;
  WeightsAlong(int length, int place, int frame_length, float fwhm_px) {
    const auto nearest = [](int at, int count) {
      return static_cast<float>(std::min(at, count - 1 - at));
    };
    for (int at = 0; at < length; ++at) {
      rim.push_back(1 - falling(nearest(at, length), rim_px, margin_px - 8));
      edge.push_back(
          1 - falling(nearest(place + at, frame_length), edge_fwhm * fwhm_px, sure_fwhm * fwhm_px));
    }
  }
};

/// Weight of a tile's differences: 0 where something is hidden, at the rim and at the frame's edge.
Image weight_of(const Tile& tile, Size frame, float fwhm_px) {
  Image weight = box_mean(tile.hidden.view(), half_soft_px);
  const WeightsAlong across(tile.around.width, tile.around.x, frame.width, fwhm_px),
      down(tile.around.height, tile.around.y, frame.height, fwhm_px);
  for (int y = 0; y < weight.height(); ++y) {
    const auto hidden = tile.hidden.view().row(0, y);
    const auto row = weight.view().row(0, y);
    const float rim = down.rim[static_cast<std::size_t>(y)],
                edge = down.edge[static_cast<std::size_t>(y)];
    for (std::size_t x = 0; x < row.size(); ++x) {
      const float seen = std::max(0.0F, 1 - 2 * row[x]) * std::min(rim, across.rim[x]) *
                         std::min(edge, across.edge[x]);
      row[x] = hidden[x] != 0 ? 0 : seen;
    }
  }
  return weight;
}

/// Sums of the blocks that begin in row y.
void sum_blocks(ConstView plane, int y, std::vector<float>& line, std::span<float> sums) {
  line.assign(plane.row(0, y).begin(), plane.row(0, y).end());
  for (int i = 1; i < block_px; ++i) {
    const auto row = plane.row(0, y + i);
    for (std::size_t x = 0; x < line.size(); ++x) line[x] += row[x];
  }
  for (std::size_t block = 0; block < sums.size(); ++block) {
    const float* at = &line[block * block_px];
    sums[block] = (at[0] + at[1]) + (at[2] + at[3]);
  }
}

/// Whether some block differs by more than noise does.
bool differs(ConstView difference, ConstView blurred, const NoiseVariance& variance) {
  std::vector<float> line, sums(static_cast<std::size_t>(difference.width() / block_px));
  for (int y = 0; y + block_px <= difference.height(); y += block_px) {
    sum_blocks(difference, y, line, sums);
    const auto light = blurred.row(0, y + block_px / 2);
    for (std::size_t block = 0; block < sums.size(); ++block) {
      const float sigma = block_px * std::sqrt(variance(light[block * block_px + block_px / 2]));
      if (std::abs(sums[block]) > certain_sigma * sigma) return true;
    }
  }
  return false;
}

/// The result of spectrum `made` as the measured PSF would show it.
Image blurred(const ColumnSpectrum& made, const ColumnSpectrum& passing) {
  const Size size = made.size();
  return image_from_columns(
      made.channels(), size, {0, 0, size.width, size.height}, [&](int c, int kx, auto out) {
        const auto from = made.column(c, kx), transfer = passing.column(c, kx);
        for (std::size_t ky = 0; ky < out.size(); ky += complex_lane_count) {
          const std::size_t count = std::min(complex_lane_count, out.size() - ky);
          store_some(&out[ky],
                     product(load_some(&from[ky], count), load_some(&transfer[ky], count)), count);
        }
      });
}

/// Record less blurred result, weighted.
Image difference_of(const Tile& tile, ConstView shown, ConstView weight) {
  Image difference = Image::unset(shown.channels(), shown.size());
  for (int c = 0; c < difference.channels(); ++c) {
    for (int y = 0; y < difference.height(); ++y) {
      const auto recorded = tile.before.view().row(c, y), blurred_row = shown.row(c, y),
                 w = weight.row(0, y);
      const auto row = difference.view().row(c, y);
      for (std::size_t x = 0; x < row.size(); ++x) row[x] = w[x] * (recorded[x] - blurred_row[x]);
    }
  }
  return difference;
}

/// Adds to what is hidden where differences are sharper than any PSF makes them: dead rows, hot and
/// cold pixels, cosmic rays. Returns how far the worst is over the threshold, 0 where there is
/// none.
float hide_defects(Tile& tile, ConstView difference, ConstView shown, const NoiseModel& noise) {
  Image flags;
  float worst = 0;
  std::vector<float> most(static_cast<std::size_t>(difference.width())), over(most.size());
  for (int c = 0; c < difference.channels(); ++c) {
    const NoiseVariance variance(noise, c);
    BoxMeanRows mean(difference.size(), 1, rows_of(difference.channel(c)));
    for (int y = 0; y < difference.height(); ++y) {
      const auto value = difference.row(c, y), light = shown.row(c, y);
      const auto smooth = mean.row(y);
      int any = 0;
      for (std::size_t x = 0; x < most.size(); ++x) {
        most[x] = sharp_sigma * std::sqrt(variance(light[x])) + 0.5F * std::abs(smooth[x]);
        over[x] = std::abs(value[x] - smooth[x]) - most[x];
        any |= over[x] >= 0 ? 1 : 0;
      }
      if (any == 0) continue;
      if (flags.empty()) flags = Image(1, tile.around.size());
      for (std::size_t x = 0; x < most.size(); ++x) {
        if (over[x] < 0) continue;
        flags.view().row(0, y)[x] = 1;
        worst = std::max(worst, (over[x] + most[x]) / std::max(most[x], 1e-20F));
      }
    }
  }
  if (worst > 0) add_flags(tile.hidden, near_flags(flags, defect_reach_px));
  return worst;
}

/// Whether the record shows nothing but even sky and the result nothing else.
bool without_structure(const Tile& tile, const NoiseModel& noise) {
  constexpr float even_sigma = 4;
  std::vector<float> line, recorded(static_cast<std::size_t>(tile.around.width / block_px)),
      made(recorded.size());
  for (int c = 0; c < tile.before.channels(); ++c) {
    const float sigma = noise.correlation * noise.sky[static_cast<std::size_t>(c)].sigma;
    float lowest = INFINITY, highest = -INFINITY;
    for (int y = 0; y + block_px <= tile.around.height; y += block_px) {
      sum_blocks(tile.before.view().channel(c), y, line, recorded);
      sum_blocks(tile.after.view().channel(c), y, line, made);
      for (std::size_t block = 0; block < made.size(); ++block) {
        if (std::abs(made[block] - recorded[block]) > certain_sigma * block_px * sigma)
          return false;
        lowest = std::min(lowest, recorded[block]);
        highest = std::max(highest, recorded[block]);
      }
      if (highest - lowest > 2 * even_sigma * block_px * sigma) return false;
    }
  }
  return true;
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

/// What the network and `change`, of the judged part, have changed in one channel. No change:
/// empty.
Image changes_of(const Tile& tile, ConstView change, int channel) {
  Image changes = Image::unset(1, tile.around.size());
  for (int y = 0; y < changes.height(); ++y) {
    std::ranges::transform(tile.after.view().row(channel, y), tile.before.view().row(channel, y),
                           changes.view().row(0, y).begin(), std::minus<>());
  }
  if (change.empty()) return changes;
  const MutableView here = changes.view().crop(judged(tile));
  for (int y = 0; y < here.height(); ++y) {
    std::ranges::transform(here.row(0, y), change.row(channel, y), here.row(0, y).begin(),
                           std::plus<>());
  }
  return changes;
}

/// The spectrum of the record and these changes.
ColumnSpectrum spectrum_with(const Tile& tile, ConstView changes, int channel) {
  Image made = copy(changes);
  for (int y = 0; y < made.height(); ++y) {
    const auto row = made.view().row(0, y);
    std::ranges::transform(row, tile.before.view().row(channel, y), row.begin(), std::plus<>());
  }
  return column_fft(made.view());
}

/// Adds what was changed too much or too little. `made`: spectrum of the result; `change`: of the
/// judged part; the inner one is mended. Where there is `none` yet, it is 0.
void add_gains(const Tile& tile, const ColumnSpectrum& made, const ColumnSpectrum& passing,
               ConstView shown, ConstView weight, const NoiseModel& noise, bool none,
               MutableView change) {
  for (int c = 0; c < change.channels(); ++c) {
    const Image changes = changes_of(tile, none ? ConstView() : change, c);
    if (!changes_something(changes.view(), noise.sky[static_cast<std::size_t>(c)].sigma)) continue;
    const ColumnSpectrum recorded = column_fft(tile.before.view().channel(c));
    std::optional<ColumnSpectrum> changed;
    if (!none) changed = spectrum_with(tile, changes.view(), c);
    add_band_gains({.changes = changes.view(),
                    .shown = shown.channel(c),
                    .hidden = tile.hidden.view(),
                    .recorded = recorded.plane(0),
                    .made = none ? made.plane(c) : changed->plane(0),
                    .transfer = passing.plane(c),
                    .variance = NoiseVariance(noise, c),
                    .correlation = noise.correlation},
                   tile.inner, weight.crop(tile.inner), inner_of(tile, change).channel(c));
  }
}

/// What is to be added to the inner part, and `judged_px` around it; empty where nothing is.
Image change_of(Tile tile, Size frame, float fwhm_px, const NoiseModel& noise,
                const TileControls& controls) {
  const int channels = tile.before.channels();
  const auto fill = [&tile] {
    const GapFilling filling(tile.hidden.view());
    filling.fill(tile.before.view());
    filling.fill(tile.after.view());
  };
  fill();
  if (without_structure(tile, noise)) return {};
  const ColumnSpectrum pass = passing(controls, channels, tile.around.size());
  ColumnSpectrum made = column_fft(tile.after.view());
  Image shown = blurred(made, pass), weight = weight_of(tile, frame, fwhm_px),
        difference = difference_of(tile, shown.view(), weight.view());
  const auto agrees = [&] {
    for (int c = 0; c < channels; ++c) {
      if (differs(difference.view().channel(c), shown.view().channel(c), NoiseVariance(noise, c)))
        return false;
    }
    return true;
  };
  bool agreed = agrees();
  const float worst = agreed ? 0 : hide_defects(tile, difference.view(), shown.view(), noise);
  if (worst > 0) {
    if (worst > spreading_defect) {
      fill();
      made = column_fft(tile.after.view());
      shown = blurred(made, pass);
    }
    weight = weight_of(tile, frame, fwhm_px);
    difference = difference_of(tile, shown.view(), weight.view());
    agreed = agrees();
  }
  Image change = agreed ? Image(channels, judged(tile).size())
                        : missing_light({.before = tile.before.view(),
                                         .after = tile.after.view(),
                                         .shown = shown.view(),
                                         .difference = difference.view()},
                                        judged(tile), pass, noise);
  add_gains(tile, made, pass, shown.view(), weight.view(), noise, agreed, change.view());
  return change;
}

/// Adds a change and returns how many pixels it can be seen in.
std::size_t add_change(ConstView change, const NoiseModel& noise, MutableView to) {
  std::vector<char> seen(static_cast<std::size_t>(to.width()));
  std::size_t count = 0;
  for (int y = 0; y < to.height(); ++y) {
    std::ranges::fill(seen, 0);
    for (int c = 0; c < to.channels(); ++c) {
      const float least = seen_sigma * noise.sky[static_cast<std::size_t>(c)].sigma;
      const auto by = change.row(c, y);
      const auto out = to.row(c, y);
      for (std::size_t x = 0; x < out.size(); ++x) {
        out[x] += by[x];
        seen[x] = std::abs(by[x]) > least ? 1 : seen[x];
      }
    }
    count += static_cast<std::size_t>(std::ranges::count(seen, 1));
  }
  return count;
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
  std::vector<Image> changes(static_cast<std::size_t>(columns) * static_cast<std::size_t>(rows));
  const auto add_row = [&](int row) {
    for (int i = 0; i < columns; ++i) {
      Image& change = changes[static_cast<std::size_t>(row * columns + i)];
      if (change.empty()) continue;
      const Rect place = intersect({i * inner.width, row * inner.height, inner.width, inner.height},
                                   {0, 0, after.width(), after.height()});
      changed += add_change(change.view().crop({judged_px, judged_px, place.width, place.height}),
                            noise, after.crop(place));
      change = {};
    }
  };
  // a row is changed once the next one has seen it as it was
  RowsInOrder seen(rows, columns, add_row);
  parallel_for(columns * rows, known.threads, [&](int i) {
    const int row = i / columns;
    const Rect place{i % columns * inner.width, row * inner.height, inner.width, inner.height};
    const Rect around{place.x - margin_px, place.y - margin_px, size.width, size.height};
    const Rect in_frame{around.x + known.part.x, around.y + known.part.y, size.width, size.height};
    Tile tile{
        .around = in_frame,
        .inner = {margin_px, margin_px, size.width - 2 * margin_px, size.height - 2 * margin_px},
        .before = extract_mirrored(before, around),
        .after = extract_mirrored(after, around),
        .hidden = {}};
    tile.hidden = lights_to_hide(tile.before.view(), in_frame, known.catalogue, known.fwhm_px);
    const auto middle = [](int from, int length) {
      return static_cast<float>(from) + static_cast<float>(length) / 2;
    };
    if (std::ranges::any_of(tile.hidden.pixels(), [](float m) { return m == 0; })) {
      changes[static_cast<std::size_t>(i)] =
          change_of(std::move(tile), known.before.size(), known.fwhm_px, noise,
                    controls_at(middle(known.part.x + place.x, place.width),
                                middle(known.part.y + place.y, place.height)));
    }
    seen.complete_tile(row);
  });
  return static_cast<double>(changed) / static_cast<double>(after.size().pixels());
}

}  // namespace limpid
