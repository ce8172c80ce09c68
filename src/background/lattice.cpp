#include "background/lattice.h"

#include <cmath>
#include <vector>

#include "core/parallel.h"

namespace limpid::background {
namespace {

/// Four rows of nodes from `first` on, weighted by `down`.
std::vector<float> blend_rows(ConstView nodes, int channel, int first,
                              const std::array<float, 4>& down) {
  std::vector<float> line(static_cast<std::size_t>(nodes.width()), 0);
  for (int i = 0; i < 4; ++i) {
    const auto from = nodes.row(channel, first + i);
    const float weight = down[static_cast<std::size_t>(i)];
    for (std::size_t u = 0; u < line.size(); ++u) line[u] += weight * from[u];
  }
  return line;
}

}  // namespace

std::array<float, 4> cubic_weights(float t) {
  return {((-0.5F * t + 1) * t - 0.5F) * t, (1.5F * t - 2.5F) * t * t + 1,
          ((-1.5F * t + 2) * t + 0.5F) * t, (0.5F * t - 0.5F) * t * t};
}

Image make_nodes(int channels, Size frame,
                 const std::function<void(double, double, std::span<float>)>& at, int threads) {
  Image nodes(channels, {(frame.width - 1) / node_px + 4, (frame.height - 1) / node_px + 4});
  parallel_for(nodes.height(), threads, [&](int v) {
    std::vector<float> values(static_cast<std::size_t>(channels));
    for (int u = 0; u < nodes.width(); ++u) {
      at((u - 1) * node_px, (v - 1) * node_px, values);
      for (int c = 0; c < channels; ++c)
        nodes.view()(c, v, u) = values[static_cast<std::size_t>(c)];
    }
  });
  return nodes;
}

void fill_from_nodes(ConstView nodes, int channel, int y, std::span<float> row) {
  const auto line = blend_rows(nodes, channel, y / node_px,
                               cubic_weights(static_cast<float>(y % node_px) / node_px));
  std::array<std::array<float, 4>, node_px> across{};
  for (int i = 0; i < node_px; ++i) {
    across[static_cast<std::size_t>(i)] = cubic_weights(static_cast<float>(i) / node_px);
  }
  for (std::size_t x = 0; x < row.size(); ++x) {
    const float* node = line.data() + x / node_px;
    const auto& weight = across[x % node_px];
    row[x] = weight[0] * node[0] + weight[1] * node[1] + weight[2] * node[2] + weight[3] * node[3];
  }
}

void sample_nodes(ConstView nodes, int channel, double y, std::span<const double> columns,
                  std::span<float> row) {
  const auto cell = [](double place) { return static_cast<int>(std::floor(place / node_px)); };
  const auto share = [&](double place) {
    return static_cast<float>(place / node_px - cell(place));
  };
  const auto line = blend_rows(nodes, channel, cell(y), cubic_weights(share(y)));
  for (std::size_t i = 0; i < row.size(); ++i) {
    const float* node = line.data() + cell(columns[i]);
    const auto weight = cubic_weights(share(columns[i]));
    row[i] = weight[0] * node[0] + weight[1] * node[1] + weight[2] * node[2] + weight[3] * node[3];
  }
}

}  // namespace limpid::background
