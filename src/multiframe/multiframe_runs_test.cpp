// PSFs, masks, memory that runs out, resumed and shared runs.
#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "multiframe/multiframe_test.h"

namespace limpid {
namespace {

using namespace multiframe_test;

/// A blob and a fainter one beside it: no symmetry.
Image lopsided(int side, float fwhm_px, float dx, float dy) {
  Image kernel = Psf{fwhm_px, 3, 0, 0, 0, 0}.kernel(side);
  const Image ghost = Psf{fwhm_px, 3, 0, 0, dx, dy}.kernel(side);
  for (std::size_t i = 0; i < kernel.pixels().size(); ++i)
    kernel.pixels()[i] = 0.7F * kernel.pixels()[i] + 0.3F * ghost.pixels()[i];
  return kernel;
}

TEST(MultiFrame, LopsidedPsfsAreConvolvedAndNotCorrelated) {
  FrameSetSettings settings = small_settings();
  settings.frames = 1;
  FrameSet set = synthetic::make_frame_set(settings);
  set.frames.clear();
  std::vector<Image> kernels;
  for (int i = 0; i < 3; ++i) {
    const float dx = 4.0F - static_cast<float>(i), dy = 1.0F + static_cast<float>(i);
    kernels.push_back(lopsided(41, 2.6F, dx, dy));
    Image frame(1, settings.size, 50);
    for (const TrueStar& star : set.stars) {
      synthetic::add_star(frame.view(), {2.6F, 3, 0, 0, 0, 0}, {star.x, star.y, 0.7F * star.flux});
      synthetic::add_star(frame.view(), {2.6F, 3, 0, 0, dx, dy},
                          {star.x, star.y, 0.3F * star.flux});
    }
    synthetic::add_noise(frame.view(), 1, 0, 50, static_cast<std::uint32_t>(i) + 5);
    set.frames.push_back(std::move(frame));
  }
  auto inputs = set.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].psf = std::move(kernels[i]);
  const Multiframe result = deconvolve_frames(inputs, few_iterations(30));
  for (const TrueStar& star : set.stars) {
    const double core = aperture(result.image.view(), star.x, star.y, 2.5F);
    const double ghost = aperture(result.image.view(), star.x + 3, star.y + 2, 1.5F);
    const double mirrored = aperture(result.image.view(), star.x - 3, star.y - 2, 1.5F);
    EXPECT_LT(ghost, 0.15 * core) << star.x << ' ' << star.y;
    EXPECT_LT(mirrored, 0.05 * core) << star.x << ' ' << star.y;
  }
}

TEST(MultiFrame, EachChannelHasThePsfOfItsOwn) {
  FrameSetSettings settings = small_settings();
  settings.size = {260, 260};
  settings.frames = 1;
  FrameSet set = synthetic::make_frame_set(settings);
  set.frames.clear();
  for (int i = 0; i < 4; ++i) {
    Image frame(3, settings.size, 50);
    for (int c = 0; c < 3; ++c) {
      const Psf psf{2.6F + 0.7F * static_cast<float>(c), 3, 0, 0, 0, 0};
      for (const TrueStar& star : set.stars)
        synthetic::add_star(frame.view(), psf, {star.x, star.y, 5 * star.flux}, c);
    }
    synthetic::add_noise(frame.view(), 1, 0, 50, static_cast<std::uint32_t>(i) + 5);
    set.frames.push_back(std::move(frame));
  }
  const Multiframe result = deconvolve_frames(set.inputs(), few_iterations(25));
  ASSERT_EQ(result.image.channels(), 3);
  std::vector<TrueStar> stars = set.stars;
  for (TrueStar& star : stars) star.flux *= 5;
  for (int c = 0; c < 3; ++c) {
    const StarFigures figures = measure_stars(result.image.view(), stars, 1, nullptr, c);
    // with the first channel's PSF the third keeps two thirds of its width, over 2.6 px
    EXPECT_LT(figures.fwhm_px, 2.2 + 0.1 * c) << c;
    EXPECT_NEAR(figures.flux_ratio, 1, 0.01) << c;
  }
  MultiframeOptions luma = few_iterations(2);
  luma.luma = true;
  EXPECT_EQ(deconvolve_frames(set.inputs(), luma).image.channels(), 1);
}

TEST(MultiFrame, RejectedPixelsWeighNothingAndOthersDo) {
  const FrameSetSettings settings = small_settings();
  FrameSet set = synthetic::make_frame_set(settings);
  const Rect square{60, 50, 24, 24};
  const auto spoil = [&](Image& frame) {
    for (int y = square.y; y < square.y + square.height; ++y) {
      for (int x = square.x; x < square.x + square.width; ++x) frame.view()(0, y, x) += 500;
    }
  };
  auto clean_inputs = with_true_psfs(set);
  MultiframeOptions options = few_iterations(8);
  options.loss = Loss::l2;  // so that nothing but the mask protects
  const auto mean_in_square = [&](const Image& image) {
    double sum = 0;
    for (int y = square.y + 4; y < square.y + 20; ++y) {
      for (int x = square.x + 4; x < square.x + 20; ++x) sum += image.view()(0, y, x);
    }
    return sum / 256;
  };
  const double clean = mean_in_square(deconvolve_frames(clean_inputs, options).image);
  spoil(set.frames[0]);
  auto inputs = with_true_psfs(set);
  EXPECT_GT(mean_in_square(deconvolve_frames(inputs, options).image), clean + 50);
  inputs[0].rejected = [&](Rect rect) {
    Image marks(1, rect.size());
    const Rect part = intersect(rect, square);
    for (int y = part.y; y < part.y + part.height; ++y) {
      for (int x = part.x; x < part.x + part.width; ++x)
        marks.view()(0, y - rect.y, x - rect.x) = 1;
    }
    return marks;
  };
  const Multiframe masked = deconvolve_frames(inputs, options);
  // one of five frames is missing there: noise, and no darkened outline
  EXPECT_NEAR(mean_in_square(masked.image), clean, 0.5);
  for (int x = square.x - 6; x < square.x + square.width + 6; ++x)
    EXPECT_GT(masked.image.view()(0, square.y - 2, x), settings.sky - 4) << x;
}

TEST(MultiFrame, SmallerTilesAfterMemoryRanOutGiveTheSame) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = with_true_psfs(set);
  MultiframeOptions options = few_iterations(6);
  const Multiframe whole = deconvolve_frames(inputs, options);
  ASSERT_EQ(whole.report.tiles, 1);
  ASSERT_GT(whole.report.frames_at_once, 1);
  int refusals = 0;
  options.on_memory = [&](int frames, int tile_px) {
    if (frames <= 1 && tile_px < 150) return;
    ++refusals;
    throw Error(ErrorKind::exhausted, "injected");
  };
  std::vector<std::string> notes;
  Progress progress;
  progress.note = [&](std::string_view text) { notes.emplace_back(text); };
  const Multiframe tiled = deconvolve_frames(inputs, options, progress);
  EXPECT_GT(refusals, 2);
  EXPECT_GT(tiled.report.tiles, 1);
  EXPECT_EQ(tiled.report.frames_at_once, 1);
  EXPECT_FALSE(notes.empty());
  EXPECT_EQ(tiled.report.iterations.size(), 6U);
  EXPECT_LT(largest_difference(whole.image, tiled.image), 1e-4 * largest(whole.image));
}

TEST(MultiFrame, MemoryThatRunsOutAltogetherIsAnError) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  MultiframeOptions options = few_iterations(2);
  options.on_memory = [](int, int) { throw Error(ErrorKind::exhausted, "injected"); };
  try {
    deconvolve_frames(with_true_psfs(set), options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::exhausted);
  }
}

TEST(MultiFrame, ResumingGivesTheSameBytes) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = with_true_psfs(set);
  MultiframeOptions options = few_iterations(7);
  std::optional<MultiframeState> middle;
  options.save_state = [&](const MultiframeState& state) {
    if (state.iteration == 3)
      middle = MultiframeState{3, state.estimate.clone(), state.noise, state.history};
  };
  const Multiframe through = deconvolve_frames(inputs, options);
  ASSERT_TRUE(middle);
  options.resume = &*middle;
  options.save_state = {};
  const Multiframe resumed = deconvolve_frames(inputs, options);
  EXPECT_TRUE(std::ranges::equal(through.image.pixels(), resumed.image.pixels()));
  EXPECT_EQ(resumed.report.iterations.size(), 7U);
  middle->noise.pop_back();
  EXPECT_THROW(deconvolve_frames(inputs, options), Error);
}

TEST(MultiFrame, ProgressTellsIterationFrameAndTheLastUpdate) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  std::vector<std::string> stages;
  Progress progress;
  progress.report = [&](double, std::string_view stage) { stages.emplace_back(stage); };
  const Multiframe result = deconvolve_frames(with_true_psfs(set), few_iterations(3), progress);
  EXPECT_TRUE(std::ranges::count(stages, "iteration 1/3, frame 5/5") == 1);
  for (std::size_t i = 1; i < 3; ++i) {
    const double percent = 100 * result.report.iterations[i - 1].update;
    std::array<char, 80> text{};
    std::snprintf(text.data(), text.size(), "iteration %zu/3, frame 5/5, update %.*f %%", i + 1,
                  percent < 10 ? 2 : 0, percent);
    EXPECT_EQ(std::ranges::count(stages, text.data()), 1) << text.data();
  }
}

TEST(MultiFrame, OptionsThatOthersLeaveUnusedAreNamed) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto notes_of = [&](auto change) {
    MultiframeOptions options = few_iterations(1);
    change(options);
    return deconvolve_frames(with_true_psfs(set), options).report.notes;
  };
  using Notes = std::vector<std::string>;
  EXPECT_EQ(notes_of([](MultiframeOptions& o) { o.sr_sigma = 1.4F; }),
            Notes{"a grid as fine as the frames' leaves unused: --sr-sigma"});
  EXPECT_EQ(notes_of([](MultiframeOptions& o) {
              o.loss = Loss::l2;
              o.huber_delta = -3;
              o.reject_sigma = 5;
            }),
            Notes{"--loss l2 trusts every pixel and leaves unused: --huber-delta, --reject-sigma"});
  EXPECT_EQ(notes_of([](MultiframeOptions& o) {
              o.super_resolution = 2;
              o.sr_sigma = 1.4F;
              o.sr_psf_iterations = 20;
            }),
            Notes{});
}

TEST(MultiFrame, OneThreadEqualsEight) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = with_true_psfs(set);
  MultiframeOptions options = few_iterations(3);
  options.threads = 1;
  const Multiframe one = deconvolve_frames(inputs, options);
  options.threads = 8;
  const Multiframe eight = deconvolve_frames(inputs, options);
  EXPECT_TRUE(std::ranges::equal(one.image.pixels(), eight.image.pixels()));
}

TEST(MultiFrame, TwoHostsEqualOne) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = with_true_psfs(set);
  const Multiframe alone = deconvolve_frames(inputs, few_iterations(5));
  const auto hosts = on_two_hosts(inputs, inputs, few_iterations(5));
  EXPECT_LT(largest_difference(alone.image, hosts[0].image), 1e-5 * largest(alone.image));
  EXPECT_TRUE(std::ranges::equal(hosts[0].image.pixels(), hosts[1].image.pixels()));
}

TEST(MultiFrame, SuperResolutionKeepsLightAndPlaces) {
  FrameSetSettings settings = small_settings();
  settings.fwhm_low = 2.2F;
  settings.fwhm_high = 3;
  settings.snr_low = 300;
  FrameSet set = synthetic::make_frame_set(settings);
  for (const int factor : {2, 3}) {
    MultiframeOptions options = few_iterations(30);
    options.super_resolution = factor;
    const Multiframe result = deconvolve_frames(with_true_psfs(set), options);
    ASSERT_EQ(result.image.size(), (Size{150 * factor, 130 * factor}));
    const StarFigures stars = measure_stars(result.image.view(), set.stars, factor);
    ASSERT_GE(stars.stars, 6);
    EXPECT_NEAR(stars.dx, 0, 0.02 * factor);
    EXPECT_NEAR(stars.dy, 0, 0.02 * factor);
    EXPECT_NEAR(stars.flux_ratio, 1, 0.01);
    EXPECT_LT(stars.fwhm_px, 0.9 * 2.2 * factor);
    // light per fine pixel
    EXPECT_NEAR(measure_sky(result.image.view())[0].sky * static_cast<float>(factor * factor),
                settings.sky, 0.3);
  }
}

}  // namespace
}  // namespace limpid
