#include "background/correction.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "background/lattice.h"

namespace limpid::background {
namespace {

/// The nodes around a place, of which `count` + 2 are there, and the place between the second and
/// the third.
struct Cell {
  int first;
  std::array<float, 4> weights;
  Cell(double share, int count) {
    const double place = share * (count - 1);
    first = std::clamp(static_cast<int>(std::floor(place)), 0, count - 2);
    weights = cubic_weights(static_cast<float>(place - first));
  }
};

}  // namespace

Correction::Correction(ConstView values)
    : nodes_(values.channels(), {values.width() + 2, values.height() + 2}) {
  const MutableView nodes = nodes_.view();
  const int width = nodes.width(), height = nodes.height();
  for (int c = 0; c < values.channels(); ++c) {
    for (int y = 1; y < height - 1; ++y) {
      std::ranges::copy(values.row(c, y - 1), nodes.row(c, y).begin() + 1);
    }
    // the ends go on as parabolas
    for (int y = 1; y < height - 1; ++y) {
      const auto row = nodes.row(c, y);
      const auto end = row.size() - 1;
      row[0] = 3 * (row[1] - row[2]) + row[3];
      row[end] = 3 * (row[end - 1] - row[end - 2]) + row[end - 3];
    }
    for (int x = 0; x < width; ++x) {
      const auto beyond = [&](int y, int step) {
        nodes(c, y, x) =
            3 * (nodes(c, y + step, x) - nodes(c, y + 2 * step, x)) + nodes(c, y + 3 * step, x);
      };
      beyond(0, 1);
      beyond(height - 1, -1);
    }
  }
}

void Correction::add(double across, double down, std::span<float> values) const {
  const Cell column(across, nodes_.width() - 2), row(down, nodes_.height() - 2);
  for (std::size_t c = 0; c < values.size(); ++c) {
    const int channel = nodes_.channels() == 1 ? 0 : static_cast<int>(c);
    for (int y = 0; y < 4; ++y) {
      const float* node = nodes_.view().row(channel, row.first + y).data() + column.first;
      float sum = 0;
      for (std::size_t x = 0; x < 4; ++x) sum += column.weights[x] * node[x];
      values[c] += row.weights[static_cast<std::size_t>(y)] * sum;
    }
  }
}

void fade(MutableView values, Size frame, std::span<const Gap> gaps) {
  for (int j = 0; j < values.height(); ++j) {
    for (int i = 0; i < values.width(); ++i) {
      const double x = static_cast<double>(i) / (values.width() - 1) * (frame.width - 1);
      const double y = static_cast<double>(j) / (values.height() - 1) * (frame.height - 1);
      double left = 1;
      for (const Gap& gap : gaps) {
        const double distance = std::hypot(x - gap.x, y - gap.y);
        const double t = distance < gap.radius ? distance / gap.radius : 1;
        left = std::min(left, t * t * (3 - 2 * t));
      }
      for (int c = 0; c < values.channels(); ++c) values(c, j, i) *= static_cast<float>(left);
    }
  }
}

Image make_correction(int channels, Size frame,
                      const std::function<void(double, double, std::span<float>)>& at) {
  constexpr int intervals = 24, fewest = 3;
  const int longest = std::max(frame.width, frame.height);
  const auto count = [=](int side) {
    return 1 + std::max(fewest, (intervals * side + longest - 1) / longest);
  };
  Image result(channels, {count(frame.width), count(frame.height)});
  std::vector<float> values(static_cast<std::size_t>(channels));
  for (int j = 0; j < result.height(); ++j) {
    for (int i = 0; i < result.width(); ++i) {
      at(static_cast<double>(i) / (result.width() - 1) * (frame.width - 1),
         static_cast<double>(j) / (result.height() - 1) * (frame.height - 1), values);
      for (int c = 0; c < channels; ++c) {
        result.view()(c, j, i) = values[static_cast<std::size_t>(c)];
      }
    }
  }
  return result;
}

}  // namespace limpid::background
