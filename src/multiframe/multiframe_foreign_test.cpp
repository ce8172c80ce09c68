// Frames that do not belong to the set, and beginnings and masks that do not fit it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "multiframe/multiframe_test.h"

namespace limpid {
namespace {

using namespace multiframe_test;

InputFrame showing(const std::string& name, const Image& image) {
  InputFrame frame;
  frame.name = name;
  frame.size = image.size();
  frame.channels = image.channels();
  frame.read = [&image](Rect rect) { return copy(image.view().crop(rect)); };
  frame.psf = Psf{3, 3, 0, 0, 0, 0}.kernel(41);
  return frame;
}

Image noise(Size size, std::uint32_t seed) {
  Image image(1, size, 100);
  synthetic::add_noise(image.view(), 1, 0, 0, seed);
  return image;
}

Image galaxy(Size size, float x, float y, std::uint32_t seed) {
  Image image = noise(size, seed);
  for (int v = 0; v < size.height; ++v) {
    for (int u = 0; u < size.width; ++u)
      image.view()(0, v, u) +=
          60 * std::exp(-std::hypot(static_cast<float>(u) - x, static_cast<float>(v) - y) / 9);
  }
  return image;
}

std::vector<bool> used(const Multiframe& result) {
  std::vector<bool> list;
  for (const FrameSummary& frame : result.report.frames) list.push_back(frame.used);
  return list;
}

bool has_note(const Multiframe& result, const std::string& text) {
  return std::ranges::any_of(result.report.notes, [&](const std::string& note) {
    return note.find(text) != std::string::npos;
  });
}

TEST(MultiFrame, FramesOfFewStarsThatShowSomethingElseAreLeftOut) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  auto inputs = with_true_psfs(set);
  const Image other = galaxy({150, 130}, 60, 70, 5), nothing = noise({150, 130}, 6);
  Image two = noise({150, 130}, 7);
  synthetic::add_star(two.view(), {3, 3, 0, 0, 0, 0}, {33, 47, 5000});
  synthetic::add_star(two.view(), {3, 3, 0, 0, 0, 0}, {101, 88, 3000});
  inputs.push_back(showing("galaxy", other));
  inputs.push_back(showing("nothing", nothing));
  inputs.push_back(showing("two", two));
  const Multiframe result = deconvolve_frames(inputs, few_iterations(1));
  EXPECT_EQ(used(result), (std::vector<bool>{true, true, true, true, true, false, false, false}));
  EXPECT_TRUE(has_note(result, "galaxy: left out, has too few stars"));
}

TEST(MultiFrame, FramesWithoutStarsThatShowTheSameAreUsed) {
  const Size size{150, 130};
  // a nebula, a galaxy, a planet
  for (const int object : {0, 1, 2}) {
    std::vector<Image> images;
    for (std::uint32_t i = 0; i < 5; ++i) {
      const bool foreign = i == 4;
      Image image = noise(size, 20 + i);
      if (object == 0) {
        const Image nebula = synthetic::blurred(
            synthetic::draw_nebula(size, 20, foreign ? 8 : 3).view(), {3, 3, 0, 0, 0, 0});
        for (std::size_t p = 0; p < nebula.pixels().size(); ++p)
          image.pixels()[p] += nebula.pixels()[p];
      } else if (object == 1) {
        image = foreign ? galaxy(size, 110, 40, 30) : galaxy(size, 60, 80, 31 + i);
      } else {
        const float x0 = foreign ? 100 : 60, y0 = foreign ? 50 : 75;
        for (int y = 0; y < size.height; ++y) {
          for (int x = 0; x < size.width; ++x) {
            const float away = std::hypot(static_cast<float>(x) - x0, static_cast<float>(y) - y0);
            image.view()(0, y, x) += 200 * std::clamp(32 - away, 0.0F, 4.0F);
          }
        }
      }
      images.push_back(std::move(image));
    }
    std::vector<InputFrame> inputs;
    for (std::size_t i = 0; i < images.size(); ++i)
      inputs.push_back(showing("frame " + std::to_string(i), images[i]));
    const Multiframe result = deconvolve_frames(inputs, few_iterations(1));
    EXPECT_EQ(used(result), (std::vector<bool>{true, true, true, true, false})) << object;
  }
}

TEST(MultiFrame, FramesThatAreLeftOutDoNotCutTheResult) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  auto inputs = with_true_psfs(set);
  const Multiframe without = deconvolve_frames(inputs, few_iterations(1));
  const Image small = galaxy({120, 100}, 60, 70, 5);
  inputs.push_back(showing("small", small));
  const Multiframe result = deconvolve_frames(inputs, few_iterations(1));
  EXPECT_EQ(result.image.size(), (Size{150, 130}));
  ASSERT_EQ(result.image.pixels().size(), without.image.pixels().size());
  EXPECT_EQ(largest_difference(result.image, without.image), 0);
}

TEST(MultiFrame, TheSameFrameTwiceCountsOnce) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  auto inputs = with_true_psfs(set);
  inputs.push_back(std::move(with_true_psfs(set)[1]));
  const Multiframe result = deconvolve_frames(inputs, few_iterations(1));
  EXPECT_EQ(used(result), (std::vector<bool>{true, true, true, true, true, false}));
  EXPECT_TRUE(has_note(result, "the same as frame 2"));
}

TEST(MultiFrame, AFrameThreeTimesAsWideAsTheOthersIsNoted) {
  const FrameSet set = synthetic::make_frame_set({});
  Image wide = synthetic::blurred(set.frames[0].view(), {14, 3, 0, 0, 0, 0});
  for (float& value : wide.pixels()) value = 100 + 4 * (value - 100);
  synthetic::add_noise(wide.view(), 0.5F, 0, 0, 3);
  auto inputs = set.inputs();
  const Multiframe sharp = deconvolve_frames(inputs, few_iterations(1));
  EXPECT_TRUE(sharp.report.notes.empty());
  inputs.push_back(showing("wide", wide));
  inputs.back().psf = {};
  const Multiframe result = deconvolve_frames(inputs, few_iterations(1));
  EXPECT_TRUE(result.report.frames.back().used) << result.report.frames.back().reason;
  EXPECT_TRUE(has_note(result, "over three times")) << result.report.frames.back().fwhm_px;
}

TEST(MultiFrame, TheResultHasTheUnitOfTheReferenceWhateverTheOthersHave) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const Multiframe expected = deconvolve_frames(with_true_psfs(set), few_iterations(3));
  const float sky = measure_sky(expected.image.view())[0].sky;
  for (const bool first : {false, true}) {
    auto inputs = with_true_psfs(set);
    std::vector<Image> scaled;
    scaled.reserve(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if ((i < 2) != first) continue;
      Image& image = scaled.emplace_back(set.frames[i].clone());
      for (float& value : image.pixels()) value *= 1.0F / 4096;
      inputs[i].read = [&image](Rect rect) { return copy(image.view().crop(rect)); };
    }
    const Multiframe result = deconvolve_frames(inputs, few_iterations(3));
    EXPECT_TRUE(has_note(result, "the result is in the units of"));
    const auto reference = static_cast<std::size_t>(result.report.reference);
    const float unit = (reference < 2) == first ? 1.0F / 4096 : 1;
    EXPECT_NEAR(measure_sky(result.image.view())[0].sky, sky * unit, 0.01F * sky * unit);
  }
}

TEST(MultiFrame, FramesWithoutStarsInOtherUnitsAreScaledByWhatAllShow) {
  const Size size{150, 130};
  std::vector<Image> images, mixed;
  for (std::uint32_t i = 0; i < 4; ++i) {
    images.push_back(galaxy(size, 60, 80, 31 + i));
    Image& other = mixed.emplace_back(images.back().clone());
    // floats of 0..1 beside integers of 0..65535
    for (float& value : other.pixels()) value *= i % 2 == 0 ? 1 : 1.0F / 65535;
  }
  const auto solve = [](const std::vector<Image>& frames) {
    std::vector<InputFrame> inputs;
    for (std::size_t i = 0; i < frames.size(); ++i)
      inputs.push_back(showing("frame " + std::to_string(i), frames[i]));
    return deconvolve_frames(inputs, few_iterations(5));
  };
  const Multiframe expected = solve(images), result = solve(mixed);
  EXPECT_EQ(result.report.frames_used, 4);
  EXPECT_TRUE(has_note(result, "the result is in the units of"));
  const double unit = result.report.reference % 2 == 0 ? 1 : 1.0 / 65535;
  const auto light = [](const Image& image) { return aperture(image.view(), 60, 80, 20); };
  // 2000 pixels of noise 1 under some 20000 of light
  EXPECT_NEAR(light(result.image) / (unit * light(expected.image)), 1, 0.02);
  EXPECT_LT(measure_sky(result.image.view())[0].sigma / unit,
            1.2 * measure_sky(expected.image.view())[0].sigma);
  for (const FrameSummary& frame : result.report.frames) EXPECT_NEAR(frame.weight, 0.25, 0.05);
}

TEST(MultiFrame, MasksThatRejectEverythingAreAnError) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  auto inputs = with_true_psfs(set);
  for (InputFrame& frame : inputs)
    frame.rejected = [](Rect rect) { return Image(1, rect.size(), 1); };
  try {
    deconvolve_frames(inputs, few_iterations(1));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_NE(std::string(error.what()).find("masks"), std::string::npos);
  }
}

TEST(MultiFrameSeed, IsMatchedToTheFramesAndItsGapsAreFilled) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = with_true_psfs(set);
  const Image mean = stack_frames(inputs);
  const auto from = [&](const Image& seed) {
    MultiframeOptions options = few_iterations(6);
    options.seed_image = seed.view();
    return deconvolve_frames(inputs, options).image;
  };
  const Image expected = from(mean);
  Image other = mean.clone(), gaps = mean.clone();
  for (float& value : other.pixels()) value = 3 + value / 1000;
  // what is left comes from rounding and from the fit of level and slope
  EXPECT_LT(largest_difference(from(other), expected), 0.05 * largest(expected));
  gaps.view()(0, 40, 40) = std::numeric_limits<float>::infinity();
  for (int y = 60; y < 80; ++y) {
    for (int x = 60; x < 90; ++x) gaps.view()(0, y, x) = no_data;
  }
  const Image filled = from(gaps);
  for (const float value : filled.pixels()) ASSERT_TRUE(std::isfinite(value));
  EXPECT_LT(largest_difference(filled, expected), 0.05 * largest(expected));
}

TEST(MultiFrameSeed, ThatShowsNothingOrHasAnotherSizeIsRefused) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = with_true_psfs(set);
  const auto refused = [&](const Image& seed) -> std::string {
    MultiframeOptions options = few_iterations(1);
    options.seed_image = seed.view();
    options.seed_name = "seed.fits";
    try {
      deconvolve_frames(inputs, options);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::bad_input ? error.what() : "another kind";
    }
    return "not at all";
  };
  for (const float value : {0.0F, 7.0F, no_data})
    EXPECT_TRUE(refused(Image(1, {150, 130}, value)).starts_with("seed.fits: shows nothing"));
  EXPECT_TRUE(refused(noise({150, 130}, 3)).starts_with("seed.fits: shows nothing"));
  EXPECT_EQ(refused(Image(1, {160, 130}, 7)),
            "seed.fits: 160 x 130 pixels; the frames have 150 x 130 in common");
}

}  // namespace
}  // namespace limpid
