#include "multiframe/match_seed.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/statistics.h"
#include "multiframe/thumbnail.h"

namespace limpid::multiframe {
namespace {

/// given = level + slope * stack
struct Line {
  double level = 0, slope = 0;
};

/// Value of the pair up to which half of the weights lie.
double weighted_median(std::vector<std::pair<double, double>> values) {
  std::ranges::sort(values);
  double all = 0, sum = 0;
  for (const auto& [value, weight] : values) all += weight;
  for (const auto& [value, weight] : values) {
    sum += weight;
    if (2 * sum >= all) return value;
  }
  return 0;
}

/// The sky from the cells where the stack shows no light, the slope from the light of 3 x 3 cells
/// about its bright ones: blurs differ, and what only one of them shows must not count.
Line fit_line(const Thumbnail& given, const Thumbnail& stack) {
  const auto sky_of = [](const std::vector<float>& values) {
    return values.empty() ? 0.0 : static_cast<double>(median(values));
  };
  std::vector<float> both;
  for (std::size_t i = 0; i < stack.cells.size(); ++i)
    if (!std::isnan(given.cells[i] + stack.cells[i])) both.push_back(stack.cells[i]);
  const float centre = median(both);
  const float scatter = sigma_per_mad * mad(both, centre);
  std::vector<float> dark_given, dark_stack;
  for (std::size_t i = 0; i < stack.cells.size(); ++i) {
    if (std::isnan(given.cells[i] + stack.cells[i]) || stack.cells[i] > centre) continue;
    dark_given.push_back(given.cells[i]);
    dark_stack.push_back(stack.cells[i]);
  }
  const double sky_given = sky_of(dark_given), sky_stack = sky_of(dark_stack);
  std::vector<std::pair<double, double>> ratios;
  for (int y = 1; y + 1 < stack.height; ++y) {
    for (int x = 1; x + 1 < stack.width; ++x) {
      if (!(stack.at(x, y) > centre + 3 * scatter)) continue;
      double light_given = 0, light_stack = 0;
      for (int v = y - 1; v <= y + 1; ++v) {
        for (int u = x - 1; u <= x + 1; ++u) {
          light_given += static_cast<double>(given.at(u, v)) - sky_given;
          light_stack += static_cast<double>(stack.at(u, v)) - sky_stack;
        }
      }
      if (light_stack > 0 && !std::isnan(light_given))
        ratios.emplace_back(light_given / light_stack, light_stack);
    }
  }
  const double slope = weighted_median(std::move(ratios));
  return {sky_given - slope * sky_stack, slope};
}

Image channel_of(const Image& image, int channel) { return copy(image.view().channel(channel)); }

}  // namespace

Image match_seed(Image given, const Image& stack, const Survey& survey, const std::string& name) {
  for (int c = 0; c < given.channels(); ++c) {
    const auto at = static_cast<std::size_t>(c);
    Image own = channel_of(given, c);
    for (float& value : own.pixels())
      if (!std::isfinite(value)) value = std::nanf("");
    const Thumbnail of_given = make_thumbnail(own.view()),
                    of_stack = make_thumbnail(channel_of(stack, c).view());
    Line line;
    if (show_the_same(without_sky(of_given), without_sky(of_stack)))
      line = fit_line(of_given, of_stack);
    if (!(line.slope > 0)) {
      throw Error(ErrorKind::bad_input,
                  name + ": shows nothing of what the frames show; give a stack of them as seed");
    }
    // what is as the frames are stays to the bit: blurs make some per cent, and iterations the rest
    const auto unit = static_cast<double>(survey.sigma[at]),
               sky = static_cast<double>(survey.sky[at]);
    if (std::abs(line.slope / unit - 1) < 0.1 && std::abs(line.level - sky) < unit)
      line = {sky, unit};
    const auto level = static_cast<float>(line.level), slope = static_cast<float>(line.slope);
    for (int y = 0; y < given.height(); ++y) {
      const auto from = stack.view().row(c, y);
      const auto row = given.view().row(c, y);
      for (std::size_t x = 0; x < row.size(); ++x)
        row[x] =
            std::isfinite(row[x]) && std::isfinite(from[x]) ? (row[x] - level) / slope : from[x];
    }
  }
  return given;
}

}  // namespace limpid::multiframe
