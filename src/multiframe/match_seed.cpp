#include "multiframe/match_seed.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/statistics.h"
#include "multiframe/thumbnail.h"

namespace limpid::multiframe {
namespace {

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
