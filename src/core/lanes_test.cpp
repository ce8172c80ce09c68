#include "core/lanes.h"

#include <cmath>

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(Lanes, LogarithmIsTheLibrarys) {
  for (double x = 1e-300; x < 1e300; x *= 1.37) {
    const Lanes got = log_of(Lanes{x, 1 + 1 / (1 + x), std::sqrt(0.5) * (1 + 1e-16), 1});
    EXPECT_NEAR(got[0] / std::log(x), 1, 5e-16) << x;
    EXPECT_NEAR(got[1], std::log(1 + 1 / (1 + x)), 3e-16) << x;
    EXPECT_NEAR(got[2], -0.5 * std::log(2.0), 2e-16);
    EXPECT_EQ(got[3], 0);
  }
}

TEST(Lanes, ExponentialIsTheLibrarys) {
  for (double x = -700; x < 700; x += 0.0917) {
    const Lanes got = exp_of(Lanes{x, 1e-3 * x, 0, 1e-9 * x});
    EXPECT_NEAR(got[0] / std::exp(x), 1, 6e-16) << x;
    EXPECT_NEAR(got[1] / std::exp(1e-3 * x), 1, 6e-16) << x;
    EXPECT_EQ(got[2], 1);
    EXPECT_NEAR(got[3], std::exp(1e-9 * x), 3e-16) << x;
  }
}

}  // namespace
}  // namespace limpid
