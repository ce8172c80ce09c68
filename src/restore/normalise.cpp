#include "restore/normalise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <vector>

#include "core/binned.h"
#include "core/lanes.h"
#include "core/parallel.h"
#include "restore/geometry.h"

namespace limpid {

namespace {

/// Level that all but the darkest half per cent of the pixels of a channel reach; of a sample.
float dark_quantile(ConstView channel) {
  constexpr std::size_t most = 500000;
  const std::size_t step = channel.size().pixels() / most + 1;
  std::vector<float> sample;
  std::size_t at = 0;
  for (int y = 0; y < channel.height(); ++y) {
    const auto row = channel.row(0, y);
    for (; at < row.size(); at += step) {
      if (std::isfinite(row[at])) sample.push_back(row[at]);
    }
    at -= row.size();
  }
  if (sample.empty()) return INFINITY;
  const auto nth = sample.begin() + static_cast<std::ptrdiff_t>(sample.size() / 200);
  std::ranges::nth_element(sample, nth);
  return *nth;
}

std::size_t index_of(Size size, int x, int y) {
  return static_cast<std::size_t>(y) * static_cast<std::size_t>(size.width) +
         static_cast<std::size_t>(x);
}

struct RowFacts {
  float highest = -INFINITY;  ///< of finite pixels
  bool gap = false;           ///< whether one is not
};
/// Of at least one pixel.
RowFacts highest_of(std::span<const float> row) {
  FloatLanes highest = FloatLanes{} - INFINITY, sums{};
  for_eights(row, row[0], [&](FloatLanes pixels) {
    const FloatLanes zero_or_nan = pixels - pixels;
    sums += zero_or_nan;
    const FloatLanes finite = zero_or_nan == 0 ? pixels : highest;
    highest = finite > highest ? finite : highest;
  });
  RowFacts facts;
  for (int lane = 0; lane < float_lane_count; ++lane) {
    facts.highest = std::max(facts.highest, highest[lane]);
    facts.gap = facts.gap || sums[lane] != 0;
  }
  return facts;
}

}  // namespace

Normalisation::Normalisation(std::vector<SkyLevel> sky, ConstView frame, int threads)
    : sky_(std::move(sky)) {
  parallel_for(frame.channels(), threads, [&](int c) {
    SkyLevel& level = sky_[static_cast<std::size_t>(c)];
    if (level.sigma > 0 && std::isfinite(level.sigma)) {
      // Where nebulae fill the frame the measured level is theirs, and dark clouds lie below it.
      // The network was taught light over a dark sky: noise alone has 0.5 % of its pixels 2.58
      // sigma below.
      level.sky = std::min(level.sky, dark_quantile(frame.channel(c)) + 2.6F * level.sigma);
      return;
    }
    float low = INFINITY, high = -INFINITY;
    for (int y = 0; y < frame.height(); ++y) {
      for (const float value : frame.row(c, y)) {
        if (!std::isfinite(value)) continue;
        low = std::min(low, value);
        high = std::max(high, value);
      }
    }
    // A noiseless picture: as if it had a signal-to-noise ratio of a thousand.
    level.sigma = high > low ? (high - low) * 1e-3F : 1.0F;
    if (!std::isfinite(level.sky)) level.sky = std::isfinite(low) ? low : 0.0F;
  });
}

Image Normalisation::apply(ConstView tile) const {
  Image result = Image::unset(3, tile.size());
  for (int c = 0; c < 3; ++c) {
    const int from = tile.channels() == 1 ? 0 : c;
    const SkyLevel& level = sky_[static_cast<std::size_t>(from)];
    const float scale = 1 / level.sigma;
    for (int y = 0; y < tile.height(); ++y) {
      std::ranges::transform(tile.row(from, y), result.view().row(c, y).begin(),
                             [&](float value) { return (value - level.sky) * scale; });
    }
  }
  return result;
}

Image Normalisation::undo(ConstView tile) const {
  const int channels = static_cast<int>(sky_.size());
  Image result = Image::unset(channels, tile.size());
  for (int c = 0; c < channels; ++c) {
    const SkyLevel& level = sky_[static_cast<std::size_t>(c)];
    for (int y = 0; y < tile.height(); ++y) {
      const auto out = result.view().row(c, y);
      const auto a = tile.row(channels == 1 ? 0 : c, y);
      if (channels == 1) {
        const auto b = tile.row(1, y), d = tile.row(2, y);
        for (std::size_t x = 0; x < out.size(); ++x)
          out[x] = level.sky + level.sigma * (a[x] + b[x] + d[x]) / 3;
      } else {
        for (std::size_t x = 0; x < out.size(); ++x) out[x] = level.sky + level.sigma * a[x];
      }
    }
  }
  return result;
}

Image find_missing(ConstView frame, int threads) {
  const int width = frame.width(), height = frame.height();
  std::vector<RowFacts> facts(static_cast<std::size_t>(height));
  parallel_for((height + 63) / 64, threads, [&](int part) {
    for (int y = 64 * part; y < std::min(height, 64 * part + 64); ++y) {
      RowFacts& row = facts[static_cast<std::size_t>(y)];
      for (int c = 0; c < frame.channels(); ++c) {
        const auto [highest, gap] = highest_of(frame.row(c, y));
        row.highest = std::max(row.highest, highest);
        row.gap = row.gap || gap;
      }
    }
  });
  float highest = -INFINITY;
  for (const RowFacts& row : facts) highest = std::max(highest, row.highest);

  Image missing, visited;  // made when there is something to mark: most frames are whole
  const auto mark = [&](int y, int x) {
    if (missing.empty()) missing = Image(1, frame.size());
    missing.view()(0, y, x) = 1;
  };
  for (int y = 0; y < height; ++y) {
    if (!facts[static_cast<std::size_t>(y)].gap) continue;
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < frame.channels(); ++c) {
        if (!std::isfinite(frame(c, y, x))) mark(y, x);
      }
    }
  }
  const auto all_equal = [&](int y, int x, float value) {
    for (int c = 0; c < frame.channels(); ++c) {
      if (frame(c, y, x) != value) return false;
    }
    return true;
  };
  // A frame of one value is a picture of nothing, not a border of nothing.
  const auto constant = [&](float value) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        if ((missing.empty() || missing.view()(0, y, x) == 0) && !all_equal(y, x, value))
          return false;
      }
    }
    return true;
  };
  // Borders left by registration: flood from the frame's edge over pixels of exactly that value.
  for (const float value : {0.0F, highest}) {
    if (constant(value)) continue;
    std::vector<std::pair<int, int>> region;
    bool begun = false;
    const auto visit = [&](int y, int x) {
      if (x < 0 || y < 0 || x >= width || y >= height || !all_equal(y, x, value)) return;
      if (!begun) visited = Image(1, frame.size());
      begun = true;
      if (visited.view()(0, y, x) != 0) return;
      visited.view()(0, y, x) = 1;
      region.emplace_back(y, x);
    };
    const auto flood = [&](int y, int x) {
      region.clear();
      visit(y, x);
      for (std::size_t i = 0; i < region.size(); ++i) {
        const auto [py, px] = region[i];
        visit(py - 1, px);
        visit(py + 1, px);
        visit(py, px - 1);
        visit(py, px + 1);
      }
      if (region.size() < smallest_border_px) return;
      for (const auto& [py, px] : region) mark(py, px);
    };
    for (int x = 0; x < width; ++x) flood(0, x), flood(height - 1, x);
    for (int y = 0; y < height; ++y) flood(y, 0), flood(y, width - 1);
  }
  return missing;
}

GapFilling::GapFilling(ConstView missing) {
  Level& finest = levels_.emplace_back();
  finest.size = missing.size();
  finest.missing.resize(finest.size.pixels());
  for (int y = 0; y < missing.height(); ++y) {
    const auto row = missing.row(0, y);
    for (int x = 0; x < missing.width(); ++x) {
      if (row[static_cast<std::size_t>(x)] == 0) continue;
      finest.missing[index_of(finest.size, x, y)] = 1;
      finest.gaps.push_back({x, y});
    }
  }
  while (!levels_.back().gaps.empty() && levels_.back().size.pixels() > 1) add_coarser();
  for (std::size_t i = levels_.size(); i-- > 2;) {
    Level& finer = levels_[i - 1];
    for (const auto [x, y] : levels_[i].means) {
      for_pixels(intersect({2 * x, 2 * y, 2, 2}, {0, 0, finer.size.width, finer.size.height}),
                 [&](int u, int v) {
                   char& needed = finer.needed[index_of(finer.size, u, v)];
                   if (needed == 0) finer.means.push_back({u, v});
                   needed = 1;
                 });
    }
  }
}

/// A square of which nothing is known is a gap of the coarser level, too.
void GapFilling::add_coarser() {
  const Level& fine = levels_.back();
  Level coarse;
  coarse.size = {(fine.size.width + 1) / 2, (fine.size.height + 1) / 2};
  coarse.missing.resize(coarse.size.pixels());
  coarse.needed.resize(coarse.size.pixels());
  for (const auto [x, y] : fine.gaps) {
    const BetweenBinned place(x, y, coarse.size, 2);
    for (const auto [u, v] : {Place{place.x0, place.y0},
                              {place.x1, place.y0},
                              {place.x0, place.y1},
                              {place.x1, place.y1}}) {
      char& needed = coarse.needed[index_of(coarse.size, u, v)];
      if (needed != 0) continue;
      needed = 1;
      coarse.means.push_back({u, v});
    }
    if (x % 2 != 0 || y % 2 != 0) continue;
    bool known = false;
    for_pixels(intersect({x, y, 2, 2}, {0, 0, fine.size.width, fine.size.height}),
               [&](int u, int v) { known |= fine.missing[index_of(fine.size, u, v)] == 0; });
    if (known) continue;
    coarse.missing[index_of(coarse.size, x / 2, y / 2)] = 1;
    coarse.gaps.push_back({x / 2, y / 2});
  }
  levels_.push_back(std::move(coarse));
}

void GapFilling::fill(MutableView frame) const {
  std::vector<Image> coarse;
  for (std::size_t i = 1; i < levels_.size(); ++i)
    coarse.push_back(Image::unset(1, levels_[i].size));
  for (int c = 0; c < frame.channels(); ++c) {
    std::vector<MutableView> planes{frame.channel(c)};
    for (Image& image : coarse) planes.push_back(image.view());
    for (std::size_t i = 1; i < levels_.size(); ++i) {
      const Level& fine = levels_[i - 1];
      for (const auto [x, y] : levels_[i].means) {
        float sum = 0, known = 0;
        for_pixels(intersect({2 * x, 2 * y, 2, 2}, {0, 0, fine.size.width, fine.size.height}),
                   [&](int u, int v) {
                     if (fine.missing[index_of(fine.size, u, v)] != 0) return;
                     sum += planes[i - 1](0, v, u);
                     ++known;
                   });
        planes[i](0, y, x) = sum / std::max(known, 1.0F);
      }
    }
    for (std::size_t i = levels_.size() - 1; i-- > 0;) {
      const ConstView from = planes[i + 1];
      for (const auto [x, y] : levels_[i].gaps) {
        planes[i](0, y, x) =
            BetweenBinned(x, y, from.size(), 2).mixed([&](int v, int u) { return from(0, v, u); });
      }
    }
  }
}

void fill_missing(MutableView frame, ConstView missing) { GapFilling(missing).fill(frame); }

}  // namespace limpid
