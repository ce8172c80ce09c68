#include "core/parallel.h"

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(ParallelFor, CallsEachIndexOnce) {
  for (const int threads : {0, 1, 2, 8}) {
    std::vector<int> calls(1000);
    parallel_for(1000, threads, [&](int i) { ++calls[static_cast<std::size_t>(i)]; });
    EXPECT_EQ(calls, std::vector<int>(1000, 1));
  }
}

TEST(ParallelFor, OfNothingCallsNothing) {
  parallel_for(0, 4, [](int) { FAIL(); });
}

TEST(ParallelFor, TheLowestFailureReachesTheCaller) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    try {
      parallel_for(100, 4, [](int i) {
        if (i % 10 == 7) throw std::runtime_error(std::to_string(i));
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "7");
    }
  }
}

TEST(ParallelFor, StartsNothingMoreAfterAFailure) {
  std::atomic<int> calls{0};
  EXPECT_THROW(parallel_for(1000000, 4,
                            [&](int) {
                              ++calls;
                              throw std::runtime_error("at once");
                            }),
               std::runtime_error);
  EXPECT_LE(calls, 4);
}

TEST(ParallelFor, MayBeNested) {
  std::atomic<int> calls{0};
  parallel_for(5, 3, [&](int) { parallel_for(7, 3, [&](int) { ++calls; }); });
  EXPECT_EQ(calls, 35);
}

}  // namespace
}  // namespace limpid
