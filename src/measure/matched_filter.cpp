#include "measure/matched_filter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "core/lanes.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/sky.h"

namespace limpid {

SkyModel model_sky(ConstView frame, int cell_px, int threads) {
  const auto channels = static_cast<std::size_t>(frame.channels());
  SkyModel sky;
  for (int c = 0; c < frame.channels(); ++c) sky.coverage.emplace_back(frame.channel(c));
  for (int c = 0; c < frame.channels(); ++c) {
    sky.mesh.emplace_back(frame.channel(c), sky.coverage[static_cast<std::size_t>(c)], cell_px,
                          sky_level, threads);
  }
  sky.level.resize(channels);
  for (int c = 0; c < frame.channels(); ++c) {
    const auto i = static_cast<std::size_t>(c);
    sky.level[i] = measure_sky_channel(frame.channel(c), sky.coverage[i], threads);
  }
  return sky;
}

Image detection_frame(ConstView frame, const SkyModel& sky, int threads) {
  std::vector<float> weights;
  float squares = 0;
  for (const SkyLevel& level : sky.level) {
    weights.push_back(level.sigma > 0 ? 1 / (level.sigma * level.sigma) : 0.0F);
    squares += level.sigma > 0 ? weights.back() : 0.0F;
  }
  if (squares == 0) return {1, frame.size()};
  for (float& weight : weights) weight /= std::sqrt(squares);
  Image sum = Image::unset(1, frame.size());
  const MutableView out = sum.view();
  parallel_for(frame.height(), threads, [&](int y) {
    const auto row = out.row(0, y);
    std::ranges::fill(row, 0.0F);
    std::vector<float> level(row.size());
    for (int c = 0; c < frame.channels(); ++c) {
      const auto i = static_cast<std::size_t>(c);
      if (weights[i] == 0) continue;
      sky.mesh[i].fill_row(y, level);
      const auto pixels = frame.row(c, y);
      for (std::size_t x = 0; x < row.size(); ++x) row[x] += weights[i] * (pixels[x] - level[x]);
    }
    for (float& value : row) value = std::isfinite(value) ? value : 0.0F;
    for (const Coverage& coverage : sky.coverage) coverage.blank_outside(y, row);
  });
  return sum;
}

// ---- the filter

MatchedFilter::MatchedFilter(float fwhm_px)
    : box_(std::max(3, static_cast<int>(std::lround(2 * fwhm_px)))) {
  const float sigma = std::max(fwhm_px, 0.8F) / 2.3548F;
  const int reach = std::min(box_, static_cast<int>(std::ceil(2.5F * sigma)));
  float sum = 0;
  for (int i = -reach; i <= reach; ++i) {
    taps_.push_back(std::exp(-0.5F * static_cast<float>(i * i) / (sigma * sigma)));
    sum += taps_.back();
  }
  for (float& tap : taps_) tap /= sum;
}

float MatchedFilter::white_noise_gain() const {
  float squares = 0;
  for (const float tap : taps_) squares += tap * tap;
  const auto side = static_cast<float>(2 * box_ + 1);
  // Of (g g - 1/n): sum of g^4 cross terms, with both parts summing to 1.
  return std::sqrt(squares * squares - 1 / (side * side));
}

namespace {

/// The index that `i` means in a row of `count` that is mirrored at its ends, again and again.
int mirrored(int i, int count) {
  if (count == 1) return 0;
  const int period = 2 * (count - 1);
  const int folded = ((i % period) + period) % period;
  return folded < count ? folded : period - folded;
}

/// Sum of lines times their weights; they stay in the cache, and the sum in registers.
void weigh_lines(std::span<const float* const> lines, std::span<const float> weights,
                 std::span<float> sum) {
  const auto add = [&](std::size_t x) {
    FloatLanes total{};
    for (std::size_t i = 0; i < lines.size(); ++i) total += weights[i] * load_floats(lines[i] + x);
    store_floats(&sum[x], total);
  };
  std::size_t x = 0;
  for (; x + float_lane_count <= sum.size(); x += float_lane_count) add(x);
  for (; x < sum.size(); ++x) {
    sum[x] = 0;
    for (std::size_t i = 0; i < lines.size(); ++i) sum[x] += weights[i] * lines[i][x];
  }
}

/// Adds `weight * source` to `target`; a loop of its own so that the compiler vectorises it.
void add_scaled(const float* source, float weight, float* target, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) target[i] += weight * source[i];
}

/// `row` with `pad` pixels mirrored at each end, so that light at the frame's edge is no edge.
void pad_row(std::span<const float> row, int pad, std::span<float> out) {
  const int width = static_cast<int>(row.size());
  const auto mirror_at = [&](int i) {
    out[static_cast<std::size_t>(i)] = row[static_cast<std::size_t>(mirrored(i - pad, width))];
  };
  for (int i = 0; i < pad; ++i) mirror_at(i);
  std::ranges::copy(row, out.begin() + pad);
  for (int i = width + pad; i < width + 2 * pad; ++i) mirror_at(i);
}

/// Sums over 2 * reach + 1 neighbours; `padded` has `pad` pixels before the first.
void sliding_sum(std::span<const float> padded, int pad, int reach, std::span<float> out) {
  // Several pieces of the row at once: each sum has to wait for the one before it.
  constexpr std::size_t pieces = 4;
  const std::size_t ahead = static_cast<std::size_t>(pad) + static_cast<std::size_t>(reach),
                    behind = static_cast<std::size_t>(pad) - static_cast<std::size_t>(reach);
  const std::size_t length = (out.size() + pieces - 1) / pieces;
  std::array<double, pieces> sums{};
  const auto slide = [&](std::size_t piece, std::size_t x) {
    sums[piece] += padded[x + ahead];
    out[x] = static_cast<float>(sums[piece]);
    sums[piece] -= padded[x + behind];
  };
  for (std::size_t piece = 0; piece < pieces; ++piece) {
    const std::size_t first = std::min(piece * length, out.size());
    for (std::size_t i = first + behind; i < first + ahead; ++i) sums[piece] += padded[i];
  }
  const std::size_t common = out.size() - std::min(out.size(), (pieces - 1) * length);
  for (std::size_t i = 0; i < common; ++i) {
    for (std::size_t piece = 0; piece < pieces; ++piece) slide(piece, piece * length + i);
  }
  for (std::size_t piece = 0; piece + 1 < pieces; ++piece) {
    const std::size_t end = std::min((piece + 1) * length, out.size());
    for (std::size_t x = piece * length + common; x < end; ++x) slide(piece, x);
  }
}

}  // namespace

/// Rows first .. last - 1, through the two one-dimensional passes.
void MatchedFilter::filter_band(ConstView frame, MutableView out, int first, int last) const {
  const int reach = static_cast<int>(taps_.size() / 2), width = frame.width();
  const int rows = last - first + 2 * box_, kept = 2 * box_ + 1;
  const auto columns = static_cast<std::size_t>(width);
  // the last `kept` rows, in turn
  Image smooth = Image::unset(1, {width, kept}), boxed = Image::unset(1, {width, kept});
  std::vector<float> padded(columns + 2 * static_cast<std::size_t>(box_));
  std::vector<const float*> along, down(taps_.size());
  for (std::size_t tap = 0; tap < taps_.size(); ++tap)
    along.push_back(padded.data() + static_cast<std::size_t>(box_ - reach) + tap);
  const auto side = static_cast<float>(kept);
  std::vector<float> box_sum(columns, 0.0F);
  for (int i = 0; i < rows; ++i) {
    pad_row(frame.row(0, mirrored(first - box_ + i, frame.height())), box_, padded);
    weigh_lines(along, taps_, smooth.view().row(0, i % kept));
    const auto newest = boxed.view().row(0, i % kept);
    sliding_sum(padded, box_, box_, newest);
    add_scaled(newest.data(), 1, box_sum.data(), columns);
    if (i < 2 * box_) continue;
    for (int tap = 0; tap <= 2 * reach; ++tap)
      down[static_cast<std::size_t>(tap)] =
          smooth.view().row(0, (i - box_ - reach + tap) % kept).data();
    const auto target = out.row(0, first + i - 2 * box_);
    weigh_lines(down, taps_, target);
    add_scaled(box_sum.data(), -1 / (side * side), target.data(), columns);
    add_scaled(boxed.view().row(0, (i - 2 * box_) % kept).data(), -1, box_sum.data(), columns);
  }
}

Image MatchedFilter::apply(ConstView frame, int threads) const {
  constexpr int band_px = 128;
  Image filtered = Image::unset(1, frame.size());
  const MutableView out = filtered.view();
  parallel_for((frame.height() + band_px - 1) / band_px, threads, [&](int band) {
    filter_band(frame, out, band * band_px, std::min(frame.height(), (band + 1) * band_px));
  });
  return filtered;
}

float lower_scatter(std::span<float> samples) {
  const float middle = median_in_place(samples);
  return middle - quantile_in_place(samples, 0.158655);
}

// ---- peaks

namespace {

/// Position and curvature from the parabola through the 3 by 3 pixels around a local maximum.
Peak describe_peak(ConstView filtered, int x, int y) {
  const auto at = [&](int dx, int dy) { return filtered(0, y + dy, x + dx); };
  const float height = at(0, 0);
  const float xx = 2 * height - at(1, 0) - at(-1, 0), yy = 2 * height - at(0, 1) - at(0, -1);
  const float xy = 0.25F * (at(1, -1) + at(-1, 1) - at(1, 1) - at(-1, -1));
  Peak peak;
  peak.x = x;
  peak.y = y;
  const auto offset = [](float before, float after, float curvature) {
    return curvature > 0 ? std::clamp(0.5F * (after - before) / curvature, -0.5F, 0.5F) : 0.0F;
  };
  peak.sub_x = static_cast<float>(x) + offset(at(-1, 0), at(1, 0), xx);
  peak.sub_y = static_cast<float>(y) + offset(at(0, -1), at(0, 1), yy);
  peak.height = height;
  const float mean = 0.5F * (xx + yy), half = std::hypot(0.5F * (xx - yy), xy);
  peak.most_curved = (mean + half) / height;
  peak.least_curved = (mean - half) / height;
  return peak;
}

/// Greater than what was passed already and no less than what is still to come, so that of two
/// equal neighbours exactly one is the maximum.
bool is_maximum(ConstView filtered, int x, int y) {
  const float value = filtered(0, y, x);
  for (int v = -1; v <= 1; ++v) {
    for (int u = -1; u <= 1; ++u) {
      if (u == 0 && v == 0) continue;
      const float other = filtered(0, y + v, x + u);
      if (v < 0 || (v == 0 && u < 0) ? other >= value : other > value) return false;
    }
  }
  return true;
}

/// Of a side of roughness().
int rough_length(int length) { return std::max(1, (length - 1) / 2); }

}  // namespace

Image roughness(ConstView frame, int threads) {
  const Size size{rough_length(frame.width()), rough_length(frame.height())};
  if (std::min(frame.width(), frame.height()) < 3) return {1, size};
  Image rough = Image::unset(1, size);
  const MutableView out = rough.view();
  parallel_for(out.height(), threads, [&](int i) {
    const auto above = frame.row(0, 2 * i), middle = frame.row(0, 2 * i + 1),
               below = frame.row(0, 2 * i + 2);
    const auto row = out.row(0, i);
    const auto bend = [](std::span<const float> pixels, std::size_t x) {
      return pixels[x] - 2 * pixels[x + 1] + pixels[x + 2];
    };
    for (std::size_t k = 0; k < row.size(); ++k)
      row[k] = (bend(above, 2 * k) - 2 * bend(middle, 2 * k) + bend(below, 2 * k)) / 6;
  });
  return rough;
}

std::vector<Peak> find_peaks(ConstView filtered, const FilteredNoise& noise, float threshold,
                             float point_threshold, int threads) {
  const int rows = filtered.width() < 3 ? 0 : std::max(0, filtered.height() - 2);
  std::vector<std::vector<Peak>> by_row(static_cast<std::size_t>(rows));
  parallel_for(rows, threads, [&](int i) {
    const int y = i + 1;
    const auto row = filtered.row(0, y);
    std::vector<float> scatter(row.size());
    noise.scatter.fill_row(y, scatter);
    std::vector<float> pixels = scatter;
    if (noise.roughness != nullptr) {
      std::vector<float> rough(static_cast<std::size_t>(rough_length(filtered.width())));
      noise.roughness->fill_row(y / 2, rough);
      for (std::size_t k = 0; k < rough.size(); ++k)
        pixels[2 * k] = pixels[2 * k + 1] = noise.noise_to_roughness * rough[k];
      std::fill(pixels.begin() + static_cast<std::ptrdiff_t>(2 * rough.size()), pixels.end(),
                noise.noise_to_roughness * rough.back());
    }
    for (float& value : scatter) value = std::max(value, noise.least);
    for (float& value : pixels) value = std::max(value, noise.least);
    std::vector<char> high(row.size());
    for (std::size_t x = 0; x < row.size(); ++x) {
      const bool over_scatter = row[x] > threshold * scatter[x],
                 over_pixels = row[x] > point_threshold * pixels[x];
      high[x] = (over_scatter | over_pixels) ? '\1' : '\0';
    }
    const std::string_view marks(high.data(), high.size() - 1);  // searched by memchr()
    for (auto x = marks.find('\1', 1); x != std::string_view::npos; x = marks.find('\1', x + 1)) {
      if (row[x - 1] > row[x] || row[x + 1] > row[x]) continue;
      if (!is_maximum(filtered, static_cast<int>(x), y)) continue;
      Peak peak = describe_peak(filtered, static_cast<int>(x), y);
      peak.snr = peak.height / scatter[x];
      peak.pixel_snr = peak.height / pixels[x];
      by_row[static_cast<std::size_t>(i)].push_back(peak);
    }
  });
  std::vector<Peak> peaks;
  for (const auto& row : by_row) peaks.insert(peaks.end(), row.begin(), row.end());
  return peaks;
}

}  // namespace limpid
