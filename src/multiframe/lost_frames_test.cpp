// Frames that become unreadable after they were measured.
#include "multiframe/lost_frames.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "multiframe/accelerator.h"
#include "multiframe/multiframe_test.h"

namespace limpid {
namespace {

using namespace multiframe_test;

/// From the given time of reading on the frame cannot be read: the first is for its measurement,
/// the second for the seed, the third for the iterations, where all frames fit the memory.
void lose(InputFrame& frame, int from_reading) {
  frame.read = [read = frame.read, name = frame.name, left = from_reading](Rect rect) mutable {
    if (rect.height > 1 && --left <= 0)  // not when it is asked for a line to see whether it lives
      throw Error(ErrorKind::bad_input, name + ": the file is cut short");
    return read(rect);
  };
}

Image without(const FrameSet& set, std::size_t lost, const MultiframeOptions& options) {
  auto inputs = with_true_psfs(set);
  inputs.erase(inputs.begin() + static_cast<std::ptrdiff_t>(lost));
  return deconvolve_frames(inputs, options).image;
}

MultiframeState copy_of(const MultiframeState& state) {
  return {state.iteration, state.estimate.clone(), state.noise, state.history, state.lost};
}

FrameSetSettings changing_night() {
  FrameSetSettings settings = small_settings();
  settings.sky_step = 3;
  settings.scale_step = 0.1F;
  return settings;
}

TEST(LostFrames, ThatGoBeforeTheFirstIterationAreAsIfTheyHadNotBeenThere) {
  const FrameSet set = synthetic::make_frame_set(changing_night());
  const MultiframeOptions options = few_iterations(3);
  const Image expected = without(set, 2, options);
  for (const int reading : {2, 3}) {
    auto inputs = with_true_psfs(set);
    lose(inputs[2], reading);
    std::vector<std::string> notes;
    Progress progress;
    progress.note = [&](std::string_view text) { notes.emplace_back(text); };
    const Multiframe result = deconvolve_frames(inputs, options, progress);
    EXPECT_TRUE(std::ranges::equal(result.image.pixels(), expected.pixels())) << reading;
    EXPECT_EQ(result.report.frames_used, 4);
    EXPECT_FALSE(result.report.frames[2].used);
    EXPECT_EQ(result.report.frames[2].reason, reading == 2
                                                  ? "became unreadable while the seed was made: "
                                                    "the file is cut short"
                                                  : "became unreadable in iteration 1: the file is "
                                                    "cut short");
    ASSERT_EQ(notes.size(), 1U);
    EXPECT_TRUE(notes[0].starts_with("frame 3: left out, became unreadable")) << notes[0];
    EXPECT_EQ(result.report.notes, notes);
  }
}

/// Frame `lost` of the set goes in the fourth iteration of eight; the states after the iterations
/// are kept.
Multiframe lost_in_the_middle(const FrameSet& set, std::size_t lost,
                              std::vector<MultiframeState>& states, MultiframeOptions options) {
  auto inputs = with_true_psfs(set);
  std::optional<MultiframeState> third;
  options.iterations = 3;
  options.save_state = [&](const MultiframeState& state) { third = copy_of(state); };
  deconvolve_frames(inputs, options);
  options.iterations = 8;
  options.resume = &*third;
  options.save_state = [&](const MultiframeState& state) { states.push_back(copy_of(state)); };
  lose(inputs[lost], 3);
  return deconvolve_frames(inputs, options);
}

TEST(LostFrames, TheRestGoesOnFromWhereItStood) {
  const FrameSet set = synthetic::make_frame_set(changing_night());
  for (const std::size_t lost : {0, 2, 4}) {
    std::vector<MultiframeState> states;
    const Multiframe result = lost_in_the_middle(set, lost, states, few_iterations(8));
    EXPECT_EQ(result.report.iterations.size(), 8U);
    EXPECT_FALSE(result.report.frames[lost].used);
    EXPECT_EQ(result.report.frames_used, 4);
    // Three of eight iterations knew five frames: nearly the result of four, and not half of it in
    // other units (skies differ by 12 and scales by half between the frames).
    const Image expected = without(set, lost, few_iterations(8));
    EXPECT_LT(largest_difference(result.image, expected), 0.05 * largest(expected)) << lost;
    EXPECT_NEAR(measure_sky(result.image.view())[0].sky, measure_sky(expected.view())[0].sky, 0.1);
    const auto light = [&](const Image& image) {
      return measure_stars(image.view(), set.stars).flux_ratio;
    };
    EXPECT_NEAR(light(result.image), light(expected), 0.005) << lost;
    EXPECT_GT(largest_difference(result.image, expected), 0) << lost;
    // kept at once, and then after each iteration
    ASSERT_EQ(states.size(), 6U);
    EXPECT_EQ(states[0].iteration, 3);
    EXPECT_EQ(states[1].iteration, 4);
    for (const MultiframeState& state : states)
      EXPECT_EQ(state.lost, std::vector<int>{static_cast<int>(lost)});
  }
}

TEST(LostFrames, ARunTakenUpAgainGivesTheSameBytes) {
  const FrameSet set = synthetic::make_frame_set(changing_night());
  std::vector<MultiframeState> states;
  const Multiframe through = lost_in_the_middle(set, 1, states, few_iterations(8));
  ASSERT_EQ(states.size(), 6U);
  for (const std::size_t from : {0U, 2U}) {
    for (const bool readable_again : {true, false}) {
      auto inputs = with_true_psfs(set);
      if (!readable_again) inputs[1].fault = "frame 2: no such file";
      MultiframeOptions options = few_iterations(8);
      options.resume = &states[from];
      const Multiframe resumed = deconvolve_frames(inputs, options);
      EXPECT_TRUE(std::ranges::equal(resumed.image.pixels(), through.image.pixels()))
          << from << readable_again;
      EXPECT_FALSE(resumed.report.frames[1].used);
    }
  }
}

TEST(LostFrames, TooFewThatAreLeftEndTheRun) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  auto inputs = with_true_psfs(set);
  inputs.erase(inputs.begin() + 2, inputs.end());
  lose(inputs[1], 3);
  try {
    deconvolve_frames(inputs, few_iterations(3));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_NE(std::string(error.what()).find("frame 2: left out, became unreadable in iteration 1"),
              std::string::npos)
        << error.what();
  }
}

TEST(LostFrames, ThatGoTogetherCostOneBeginning) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  auto inputs = with_true_psfs(set);
  for (const std::size_t lost : {1U, 3U}) {
    inputs[lost].read = [read = inputs[lost].read, left = 3](Rect rect) mutable {
      if (--left <= 0) throw Error(ErrorKind::bad_input, "the disk is gone");
      return read(rect);
    };
  }
  int begun = 0;
  MultiframeOptions options = few_iterations(2);
  options.on_memory = [&](int, int) { ++begun; };
  const Multiframe result = deconvolve_frames(inputs, options);
  EXPECT_EQ(result.report.frames_used, 3);
  EXPECT_EQ(begun, 3);  // the first iteration twice
}

TEST(LostFrames, WhatIsNoFaultOfTheFrameEndsTheRun) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  auto inputs = with_true_psfs(set);
  inputs[1].read = [read = inputs[1].read, left = 3](Rect rect) mutable {
    if (--left == 0) throw Error(ErrorKind::interrupted, "interrupted");
    return read(rect);
  };
  EXPECT_THROW(deconvolve_frames(inputs, few_iterations(2)), Error);
}

TEST(LostFrames, OnADeviceTheRestGoesOnThere) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  auto inputs = with_true_psfs(set);
  lose(inputs[2], 3);
  const MultiframeOptions options = few_iterations(3);
  const Multiframe result =
      multiframe::deconvolve_frames_on(multiframe::make_torch_accelerator("cpu"), inputs, options);
  auto others = with_true_psfs(set);
  others.erase(others.begin() + 2);
  const Multiframe expected =
      multiframe::deconvolve_frames_on(multiframe::make_torch_accelerator("cpu"), others, options);
  EXPECT_TRUE(std::ranges::equal(result.image.pixels(), expected.image.pixels()));
}

TEST(LostFrames, AreLeftOutByAllHosts) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const Image expected = without(set, 3, few_iterations(3));
  // frame 3 belongs to the second host; the first one makes the seed of one band from all
  for (const bool in_seed : {true, false}) {
    for (const bool in_iteration : {true, false}) {
      if (!in_seed && !in_iteration) continue;
      auto first = with_true_psfs(set), second = with_true_psfs(set);
      if (in_seed) lose(first[3], 1);
      if (in_iteration) lose(second[3], 2);
      const auto results = on_two_hosts(first, second, few_iterations(3));
      for (const Multiframe& result : results) {
        EXPECT_EQ(result.report.frames_used, 4);
        EXPECT_TRUE(result.report.frames[3].reason.starts_with("became unreadable"))
            << result.report.frames[3].reason;
        EXPECT_LT(largest_difference(result.image, expected), 1e-5 * largest(expected));
      }
    }
  }
}

}  // namespace
}  // namespace limpid
