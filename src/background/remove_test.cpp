#include <algorithm>
#include <cmath>
#include <map>

#include <gtest/gtest.h>
#include <limpid/background.h>

#include "background/background_test.h"
#include "core/statistics.h"

namespace limpid::background {
namespace {

ConstView upside_down(ConstView view) {
  return {view.data() + (view.height() - 1) * view.row_stride(), view.channels(), view.size(),
          -view.row_stride(), view.channel_stride()};
}

TEST(Background, RemovingKeepsLevelNoiseAndMissingPixels) {
  const auto s = settings(Gradient::plane, Object::none, 20);
  auto truth = synthetic::make_sky(s);
  truth.frame.view()(0, 5, 5) = std::nanf("");
  for (int x = 0; x < 40; ++x) truth.frame.view()(1, 0, x) = 0;
  const float before = median(truth.frame.pixels());
  const Background sky = fit_background(truth.frame.view());
  for (const auto mode : {BackgroundMode::subtract, BackgroundMode::divide}) {
    Image frame = truth.frame.clone();
    remove_background(frame.view(), sky, {.mode = mode});
    // the medians of a skewed sky and of a flat one differ by a part of its range
    EXPECT_NEAR(median(frame.pixels()), before, 3 * s.sigma);
    EXPECT_TRUE(std::isnan(frame.view()(0, 5, 5)));
    EXPECT_EQ(frame.view()(1, 0, 7), 0);
  }
  Image neutral = truth.frame.clone();
  const RemoveReport report = remove_background(neutral.view(), sky, {.neutral = true});
  EXPECT_EQ(report.level[0], report.level[2]);
  const auto channel = [&](std::size_t c) {
    return neutral.pixels().subspan(c * 720 * 480, 720 * 480);
  };
  EXPECT_NEAR(median(channel(0)), median(channel(2)), 0.2F * s.sigma);
}

TEST(Background, APartOfTheFrameLosesTheSameSky) {
  auto truth = synthetic::make_sky(settings(Gradient::dome, Object::none, 20));
  truth.frame.view()(0, 205, 310) = std::nanf("");
  truth.frame.view()(2, 210, 320) = 0;
  const Background sky = fit_background(truth.frame.view());
  const Rect part{301, 203, 97, 41};
  for (const auto mode : {BackgroundMode::subtract, BackgroundMode::divide}) {
    const RemoveOptions options{.mode = mode, .neutral = true};
    Image whole = truth.frame.clone();
    remove_background(whole.view(), sky, options);
    const Image own =
        without_background(truth.frame.view().crop(part), sky, {.x = 301, .y = 203}, options);
    // the same rows, read upwards
    const Image upright = without_background(upside_down(truth.frame.view().crop(part)), sky,
                                             {.x = 301, .y = 243, .step_y = -1}, options);
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < part.height; ++y) {
        for (int x = 0; x < part.width; ++x) {
          const float wanted = whole.view()(c, part.y + y, part.x + x);
          if (std::isnan(wanted)) {
            ASSERT_TRUE(std::isnan(own.view()(c, y, x)));
            continue;
          }
          ASSERT_EQ(own.view()(c, y, x), wanted);
          ASSERT_EQ(upright.view()(c, part.height - 1 - y, x), wanted);
        }
      }
    }
  }
}

TEST(Background, CountsWhatFallsBelowZero) {
  auto s = settings(Gradient::plane, Object::none, 20);
  s.level = 0.002F;
  auto truth = synthetic::make_sky(s);
  const auto negative = [&] {
    return std::ranges::count_if(truth.frame.pixels(), [](float v) { return v < 0; });
  };
  const auto before = negative();
  truth.frame.view()(0, 0, 0) = 0.0001F;
  const Background sky = fit_background(truth.frame.view());
  const RemoveReport report = remove_background(truth.frame.view(), sky);
  EXPECT_GE(static_cast<std::ptrdiff_t>(report.below_zero), negative() - before);
}

TEST(Dither, KeepsTheMeanOfASlowGradient) {
  Image frame(1, {4096, 64});
  const float step = 1.0F / 255;
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 4096; ++x)
      frame.view()(0, y, x) = 0.5F + step * static_cast<float>(x) / 4096;
  }
  dither(frame.view(), step, 1);
  // Each column of rounded pixels has the mean of the gradient: without dither it would jump by a
  // step. 64 * 64 samples of a uniform error of a step: 0.29 / 64.
  for (int left = 0; left < 4096; left += 64) {
    double sum = 0;
    for (int y = 0; y < 64; ++y) {
      for (int x = left; x < left + 64; ++x)
        sum += std::round(static_cast<double>(frame.view()(0, y, x) / step));
    }
    EXPECT_NEAR(sum / 4096, 127.5 + (left + 31.5) / 4096, 5 * 0.5 / 64);
  }
}

TEST(Dither, LeavesNoBandsAndNoCombInSixteenBits) {
  // a sky of 40 steps over the frame, twice rounded: as a camera's integers, then after half of its
  // slope is taken out
  const int width = 4000, height = 50;
  const float step = 1.0F / 65535;
  const auto slope = [=](int x) { return 40 * step * static_cast<float>(x) / width; };
  Image frame(1, {width, height});
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const float seen = std::round((0.1F + slope(x)) / step) * step;
      frame.view()(0, y, x) = seen - 0.5F * slope(x);
    }
  }
  const auto longest_run = [&] {
    int longest = 0, run = 1;
    for (int x = 1; x < width; ++x) {
      const auto level = [&](int at) { return std::lround(frame.view()(0, 7, at) / step); };
      run = level(x) == level(x - 1) ? run + 1 : 1;
      longest = std::max(longest, run);
    }
    return longest;
  };
  EXPECT_GE(longest_run(), 50);  // the bands
  dither(frame.view(), step, 3);
  // the longest of 4000 tosses of a coin whose sides are at most nine times as likely
  EXPECT_LT(longest_run(), 130);
  std::map<long, int> counts;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      ++counts[std::lround(frame.view()(0, y, x) / step)];
    }
  }
  // 20 steps are left, none of them empty or twice its neighbour as in a comb
  ASSERT_GE(counts.size(), 20U);
  const long first = counts.begin()->first, last = counts.rbegin()->first;
  for (long level = first + 2; level < last - 2; ++level) {
    EXPECT_GT(counts[level], 0.6 * counts[level + 1]) << level;
    EXPECT_LT(counts[level], 1.6 * counts[level + 1]) << level;
  }
}

}  // namespace
}  // namespace limpid::background
