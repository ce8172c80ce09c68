#include "background/lattice.h"

#include <span>
#include <vector>

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(Lattice, ReproducesParabolas) {
  const auto surface = [](double x, double y) {
    return 1e-4 * x * x - 2e-4 * x * y + 3e-4 * y * y + 0.1 * x;
  };
  const Image nodes = background::make_nodes(
      1, {61, 45},
      [&](double x, double y, std::span<float> v) { v[0] = static_cast<float>(surface(x, y)); }, 1);
  std::vector<float> row(61);
  for (int y = 0; y < 45; ++y) {
    background::fill_from_nodes(nodes.view(), 0, y, row);
    for (int x = 0; x < 61; ++x) ASSERT_NEAR(row[static_cast<std::size_t>(x)], surface(x, y), 2e-6);
  }
}

}  // namespace
}  // namespace limpid
