#include "multiframe/bright_parts.h"

#include <algorithm>
#include <cstdint>

#include "core/parallel.h"

namespace limpid::multiframe {
namespace {

std::size_t root_of(std::vector<std::size_t>& parents, std::size_t i) {
  while (parents[i] != i) i = parents[i] = parents[parents[i]];
  return i;
}

/// What lacks under the darkest, and what there is over the level.
struct Light {
  double lacking = 0, over = 0;
};

constexpr std::size_t runs_at_once = 1024;

/// Where row y shows light.
void see(ConstView image, int y, float level, float sigma, std::vector<std::uint8_t>& seen) {
  constexpr float pixel_sigmas = 5;
  constexpr int reach = 2, side = 2 * reach + 1;
  const int width = image.width();
  const int first = std::max(0, y - reach), last = std::min(image.height() - 1, y + reach);
  std::vector<float> columns(static_cast<std::size_t>(width));
  for (int v = first; v <= last; ++v) {
    const auto row = image.row(0, v);
    for (std::size_t x = 0; x < columns.size(); ++x) columns[x] += row[x] - level;
  }
  seen.assign(columns.size(), 0);
  const auto row = image.row(0, y);
  const float mean_sigmas = pixel_sigmas / side;
  for (int x = 0; x < width; ++x) {
    const int begin = std::max(0, x - reach), end = std::min(width, x + reach + 1);
    float sum = 0;
    for (int u = begin; u < end; ++u) sum += columns[static_cast<std::size_t>(u)];
    const auto count = static_cast<float>((end - begin) * (last - first + 1));
    const bool light = row[static_cast<std::size_t>(x)] > level + pixel_sigmas * sigma ||
                       sum > mean_sigmas * sigma * count;
    seen[static_cast<std::size_t>(x)] = light ? 1 : 0;
  }
}

}  // namespace

BrightParts::BrightParts(ConstView image, float level, float sigma) {
  std::vector<std::size_t> parents;
  std::vector<std::uint8_t> seen;
  for (int c = 0; c < image.channels(); ++c) {
    std::size_t above = runs_.size(), above_end = above;
    for (int y = 0; y < image.height(); ++y) {
      see(image.channel(c), y, level, sigma, seen);
      const std::size_t first = runs_.size();
      for (int x = 0; x < image.width(); ++x) {
        if (seen[static_cast<std::size_t>(x)] == 0) continue;
        const int begin = x;
        while (x < image.width() && seen[static_cast<std::size_t>(x)] != 0) ++x;
        runs_.push_back({c, y, begin, x, 0});
        parents.push_back(parents.size());
        while (above < above_end && runs_[above].end <= begin) ++above;
        for (std::size_t i = above; i < above_end && runs_[i].begin < x; ++i)
          parents[root_of(parents, parents.size() - 1)] = root_of(parents, i);
      }
      above = first;
      above_end = runs_.size();
    }
  }
  std::vector<std::size_t> numbers(parents.size());
  for (std::size_t i = 0; i < parents.size(); ++i) {
    if (parents[i] == i) numbers[i] = parts_++;
  }
  for (std::size_t i = 0; i < parents.size(); ++i) runs_[i].part = numbers[root_of(parents, i)];
}

void BrightParts::lift(MutableView image, float darkest, float level, bool pays,
                       int threads) const {
  std::vector<Light> of_runs(runs_.size());
  const auto for_runs = [&](const auto& work) {
    const std::size_t pieces = (runs_.size() + runs_at_once - 1) / runs_at_once;
    parallel_for(static_cast<int>(pieces), threads, [&](int piece) {
      const std::size_t first = static_cast<std::size_t>(piece) * runs_at_once;
      for (std::size_t i = first; i < std::min(first + runs_at_once, runs_.size()); ++i) {
        const Run& run = runs_[i];
        work(i, image.row(run.channel, run.y)
                    .subspan(static_cast<std::size_t>(run.begin),
                             static_cast<std::size_t>(run.end - run.begin)));
      }
    });
  };
  for_runs([&](std::size_t i, std::span<float> values) {
    float lacking = 0, over = 0;
    for (const float value : values) {
      lacking += std::max(darkest - value, 0.0F);
      over += std::max(value - level, 0.0F);
    }
    of_runs[i] = {lacking, over};
  });
  std::vector<Light> of_parts(parts_);
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    of_parts[runs_[i].part].lacking += of_runs[i].lacking;
    of_parts[runs_[i].part].over += of_runs[i].over;
  }
  for_runs([&](std::size_t i, std::span<float> values) {
    const auto& [lacking, over] = of_parts[runs_[i].part];
    if (!(lacking > 0)) return;
    const auto kept = static_cast<float>(pays && over > lacking ? 1 - lacking / over : 1.0);
    for (float& value : values) {
      value = value > level ? level + (value - level) * kept : std::max(value, darkest);
    }
  });
}

}  // namespace limpid::multiframe
