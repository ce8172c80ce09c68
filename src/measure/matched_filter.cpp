#include "measure/matched_filter.h"

#include <algorithm>
#include <cmath>

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
  parallel_for(frame.channels(), threads, [&](int c) {
    const auto i = static_cast<std::size_t>(c);
    sky.level[i] = measure_sky_channel(frame.channel(c), sky.coverage[i]);
  });
  return sky;
}

Image detection_frame(ConstView frame, const SkyModel& sky, int threads) {
  Image sum(1, frame.size());
  std::vector<float> weights;
  float squares = 0;
  for (const SkyLevel& level : sky.level) {
    weights.push_back(level.sigma > 0 ? 1 / (level.sigma * level.sigma) : 0.0F);
    squares += level.sigma > 0 ? weights.back() : 0.0F;
  }
  if (squares == 0) return sum;
  for (float& weight : weights) weight /= std::sqrt(squares);
  const MutableView out = sum.view();
  parallel_for(frame.height(), threads, [&](int y) {
    const auto row = out.row(0, y);
    std::vector<float> level(row.size());
    for (int c = 0; c < frame.channels(); ++c) {
      const auto i = static_cast<std::size_t>(c);
      if (weights[i] == 0) continue;
      sky.mesh[i].fill_row(y, level);
      const auto pixels = frame.row(c, y);
      for (std::size_t x = 0; x < row.size(); ++x) row[x] += weights[i] * (pixels[x] - level[x]);
    }
    for (std::size_t x = 0; x < row.size(); ++x) {
      bool covered = std::isfinite(row[x]);
      for (const Coverage& coverage : sky.coverage) {
        covered = covered && coverage.covers(static_cast<int>(x), y);
      }
      if (!covered) row[x] = 0;
    }
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

/// Adds `weight * source` to `target`; a loop of its own so that the compiler vectorises it.
void add_scaled(const float* source, float weight, float* target, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) target[i] += weight * source[i];
}

/// `row` with `pad` pixels mirrored at each end, so that light at the frame's edge is no edge.
void pad_row(std::span<const float> row, int pad, std::span<float> out) {
  const int width = static_cast<int>(row.size());
  for (int i = 0; i < static_cast<int>(out.size()); ++i) {
    out[static_cast<std::size_t>(i)] = row[static_cast<std::size_t>(mirrored(i - pad, width))];
  }
}

/// Sums over 2 * reach + 1 neighbours; `padded` has `pad` pixels before the first.
void sliding_sum(std::span<const float> padded, int pad, int reach, std::span<float> out) {
  double sum = 0;
  for (int i = pad - reach; i < pad + reach; ++i) sum += padded[static_cast<std::size_t>(i)];
  for (std::size_t x = 0; x < out.size(); ++x) {
    sum += padded[x + static_cast<std::size_t>(pad + reach)];
    out[x] = static_cast<float>(sum);
    sum -= padded[x + static_cast<std::size_t>(pad - reach)];
  }
}

}  // namespace

/// Rows first .. last - 1, through the two one-dimensional passes.
void MatchedFilter::filter_band(ConstView frame, MutableView out, int first, int last) const {
  const int reach = static_cast<int>(taps_.size() / 2), width = frame.width();
  const int rows = last - first + 2 * box_;
  const auto columns = static_cast<std::size_t>(width);
  Image smooth(1, {width, rows}), boxed(1, {width, rows});
  std::vector<float> padded(columns + 2 * static_cast<std::size_t>(box_));
  for (int i = 0; i < rows; ++i) {
    pad_row(frame.row(0, mirrored(first - box_ + i, frame.height())), box_, padded);
    const auto target = smooth.view().row(0, i);
    for (std::size_t tap = 0; tap < taps_.size(); ++tap)
      add_scaled(padded.data() + box_ - reach + tap, taps_[tap], target.data(), columns);
    sliding_sum(padded, box_, box_, boxed.view().row(0, i));
  }
  const auto side = static_cast<float>(2 * box_ + 1);
  std::vector<float> box_sum(columns, 0.0F);
  for (int i = 0; i < 2 * box_; ++i)
    add_scaled(boxed.view().row(0, i).data(), 1, box_sum.data(), columns);
  for (int y = first; y < last; ++y) {
    const int middle = y - first + box_;
    add_scaled(boxed.view().row(0, middle + box_).data(), 1, box_sum.data(), columns);
    const auto target = out.row(0, y);
    int row = middle - reach;
    for (const float tap : taps_)
      add_scaled(smooth.view().row(0, row++).data(), tap, target.data(), columns);
    add_scaled(box_sum.data(), -1 / (side * side), target.data(), columns);
    add_scaled(boxed.view().row(0, middle - box_).data(), -1, box_sum.data(), columns);
  }
}

Image MatchedFilter::apply(ConstView frame, int threads) const {
  constexpr int band_px = 128;
  Image filtered(1, frame.size());
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
  Image rough(1, {rough_length(frame.width()), rough_length(frame.height())});
  if (std::min(frame.width(), frame.height()) < 3) return rough;
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
  const int rows = std::max(0, filtered.height() - 2);
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
      for (std::size_t x = 0; x < row.size(); ++x)
        pixels[x] = noise.noise_to_roughness * rough[std::min(x / 2, rough.size() - 1)];
    }
    for (float& value : scatter) value = std::max(value, noise.least);
    for (float& value : pixels) value = std::max(value, noise.least);
    for (std::size_t x = 1; x + 1 < row.size(); ++x) {
      if (!(row[x] > threshold * scatter[x] || row[x] > point_threshold * pixels[x])) continue;
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
