#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <numeric>
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

TEST(RowsInOrder, HandsOnWhatIsCompleteWithTheRowBehindIt) {
  std::vector<int> used;
  RowsInOrder rows(3, 2, [&](int row) { used.push_back(row); });
  for (const int row : {1, 0, 2, 0}) rows.complete_tile(row);
  EXPECT_TRUE(used.empty());
  rows.complete_tile(1);
  EXPECT_EQ(used, std::vector{0});
  rows.complete_tile(2);
  EXPECT_EQ(used, (std::vector{0, 1, 2}));
}

TEST(RowsInOrder, HandsOnEachRowOnceHoweverManyThreadsThereAre) {
  for (const int threads : {1, 2, 8}) {
    constexpr int rows = 50, tiles = 7;
    std::vector<std::atomic<int>> complete(rows);
    std::vector<int> used;
    RowsInOrder order(rows, tiles, [&](int row) {
      for (int r = row; r < std::min(rows, row + 2); ++r)
        EXPECT_EQ(complete[static_cast<std::size_t>(r)], tiles);
      used.push_back(row);
    });
    parallel_for(rows * tiles, threads, [&](int i) {
      ++complete[static_cast<std::size_t>(i / tiles)];
      order.complete_tile(i / tiles);
    });
    std::vector<int> all(rows);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(used, all);
  }
}

}  // namespace
}  // namespace limpid
