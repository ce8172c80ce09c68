// The fitted sky as pixels, and the frame without it.
#include <limpid/background.h>

#include <algorithm>
#include <vector>

#include <limpid/error.h>

#include "background/lattice.h"
#include "core/parallel.h"
#include "core/random.h"

namespace limpid {

using namespace background;

namespace {

std::vector<float> levels_after(const Background& background, const RemoveOptions& options) {
  std::vector<float> level = background.report().level;
  if (options.neutral) {
    float mean = 0;
    for (const float own : level) mean += own / static_cast<float>(level.size());
    level.assign(level.size(), mean);
  }
  return level;
}

void check_divisor(const Background& background, const RemoveOptions& options) {
  if (options.mode == BackgroundMode::divide && !background.is_positive()) {
    throw Error(ErrorKind::failed,
                "the model is not positive everywhere, so the frame cannot be divided by it; use "
                "--mode subtract");
  }
}

/// NaN is missing and stays by itself; so do the zeros that registration leaves.
float cleaned(float pixel, float model, float level, bool divide) {
  if (pixel == 0) return pixel;
  return divide ? pixel / model * level : pixel - model + level;
}

}  // namespace

void Background::fill_row(int channel, int y, std::span<float> row) const {
  fill_from_nodes(nodes_.view(), channel, y, row);
}

bool Background::is_positive() const {
  return std::ranges::all_of(nodes_.pixels(), [](float value) { return value > 0; });
}

Image Background::render(int threads) const {
  Image model(channels(), size_);
  parallel_for(size_.height, threads, [&](int y) {
    for (int c = 0; c < channels(); ++c) fill_row(c, y, model.view().row(c, y));
  });
  return model;
}

Image Background::render(Size size, const Sampling& places) const {
  Image model(channels(), size);
  const auto within = [](double place, int length) {
    return std::clamp(place, 0.0, static_cast<double>(length - 1));
  };
  std::vector<double> columns;
  for (int x = 0; x < size.width; ++x)
    columns.push_back(within(places.x + places.step_x * x, size_.width));
  for (int c = 0; c < channels(); ++c) {
    for (int y = 0; y < size.height; ++y) {
      sample_nodes(nodes_.view(), c, within(places.y + places.step_y * y, size_.height), columns,
                   model.view().row(c, y));
    }
  }
  return model;
}

Image without_background(ConstView part, const Background& background, const Sampling& places,
                         const RemoveOptions& options) {
  check_divisor(background, options);
  const auto level = levels_after(background, options);
  const bool divide = options.mode == BackgroundMode::divide;
  Image result = background.render(part.size(), places);
  for (int c = 0; c < part.channels(); ++c) {
    for (int y = 0; y < part.height(); ++y) {
      const auto before = part.row(c, y);
      const auto row = result.view().row(c, y);
      for (std::size_t x = 0; x < row.size(); ++x)
        row[x] = cleaned(before[x], row[x], level[static_cast<std::size_t>(c)], divide);
    }
  }
  return result;
}

RemoveReport remove_background(MutableView frame, const Background& background,
                               const RemoveOptions& options) {
  check_divisor(background, options);
  RemoveReport report;
  report.level = levels_after(background, options);
  const bool divide = options.mode == BackgroundMode::divide;
  std::vector<std::pair<std::size_t, std::size_t>> outside(
      static_cast<std::size_t>(frame.height()));
  parallel_for(frame.height(), options.threads, [&](int y) {
    std::vector<float> model(static_cast<std::size_t>(frame.width()));
    auto& [below, above] = outside[static_cast<std::size_t>(y)];
    for (int c = 0; c < frame.channels(); ++c) {
      background.fill_row(c, y, model);
      const float level = report.level[static_cast<std::size_t>(c)];
      const auto row = frame.row(c, y);
      for (std::size_t x = 0; x < row.size(); ++x) {
        const float before = row[x], after = cleaned(before, model[x], level, divide);
        below += after < 0 && before >= 0 ? 1 : 0;
        above += after > 1 && before <= 1 ? 1 : 0;
        row[x] = after;
      }
    }
  });
  for (const auto& [below, above] : outside) {
    report.below_zero += below;
    report.above_one += above;
  }
  return report;
}

void dither(MutableView frame, float step, std::uint64_t seed, int threads) {
  parallel_for(frame.height(), threads, [&](int y) {
    for (int c = 0; c < frame.channels(); ++c) {
      Random random(seed,
                    static_cast<std::uint64_t>(c) * static_cast<std::uint64_t>(frame.height()) +
                        static_cast<std::uint64_t>(y));
      for (float& pixel : frame.row(c, y)) {
        const auto noise = static_cast<float>(random.uniform(-0.5, 0.5));
        if (pixel != 0) pixel += step * noise;
      }
    }
  });
}

}  // namespace limpid
