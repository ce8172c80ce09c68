// A smooth surface known at few places, and at all others by cubic convolution.
#pragma once

#include <array>
#include <functional>
#include <span>

#include <limpid/image.h>

namespace limpid::background {

/// Pixels between nodes.
inline constexpr int node_px = 8;

/// Values of a surface at every node_px-th pixel of a frame, from one node before its first pixel
/// to two behind its last; `at` fills the values of all channels at a place in pixels.
Image make_nodes(int channels, Size frame,
                 const std::function<void(double x, double y, std::span<float> values)>& at,
                 int threads);
/// One row of the surface: cubic convolution (Keys 1981, IEEE ASSP 29, 1153), exact for parabolas.
void fill_from_nodes(ConstView nodes, int channel, int y, std::span<float> row);
/// The weights of four nodes at a place between the second and the third, 0 <= t <= 1.
std::array<float, 4> cubic_weights(float t);
/// The same at places anywhere in the frame.
void sample_nodes(ConstView nodes, int channel, double y, std::span<const double> columns,
                  std::span<float> row);

}  // namespace limpid::background
