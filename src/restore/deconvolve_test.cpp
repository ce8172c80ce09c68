#include <limpid/deconvolve.h>

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include <limpid/error.h>

#include "core/random.h"
#include "nn/model_file.h"

namespace limpid {
namespace {

/// Untrained weights: the network then returns each tile as it came, so that all that the pipeline
/// does around it shows.
Network identity_network() {
  const auto path = std::filesystem::temp_directory_path() /
                    ("limpid_identity_" + std::to_string(::getpid()) + ".safetensors");
  const auto network = build_architecture("guided_unet", {});
  std::map<std::string, torch::Tensor> weights;
  for (const auto& item : network->named_parameters()) weights[item.key()] = item.value();
  ModelDescription about;
  about.name = "identity";
  about.architecture = "guided_unet";
  save_model(path, weights, about);
  Network loaded = Network::load(path, {Device::Kind::cpu, 0}, Precision::f32);
  std::filesystem::remove(path);
  return loaded;
}

Image noisy_frame(int channels, Size size) {
  Random random(3);
  Image frame(channels, size);
  for (float& value : frame.pixels()) value = 0.1F + 0.005F * static_cast<float>(random.normal());
  return frame;
}

/// Stars of this light on a lattice, `side` px of each, all inside the frame.
void add_stars(Image& frame, const Psf& psf, float flux, int side, int pitch) {
  const Image star = psf.kernel(side);
  for (int y0 = 20; y0 + side < frame.height(); y0 += pitch) {
    for (int x0 = 20; x0 + side < frame.width(); x0 += pitch) {
      for (int y = 0; y < side; ++y) {
        for (int x = 0; x < side; ++x) {
          frame.view()(0, y0 + y, x0 + x) += flux * star.view()(0, y, x);
        }
      }
    }
  }
}

DeconvolveOptions starless() {
  DeconvolveOptions options;
  options.psf_fwhm_px = 3.0F;
  options.no_stars = true;
  options.tile_px = 256;
  return options;
}

TEST(Deconvolve, AnIdentityNetworkGivesTheFrameBackWithoutSeams) {
  const Network network = identity_network();
  for (const int channels : {1, 3}) {
    for (const Size size : {Size{600, 300}, Size{40, 30}, Size{257, 9}}) {
      const Image frame = noisy_frame(channels, size);
      const Deconvolved result = deconvolve(frame.view(), network, starless());
      ASSERT_EQ(result.image.size(), size);
      ASSERT_EQ(result.image.channels(), channels);
      for (std::size_t i = 0; i < frame.pixels().size(); ++i) {
        // float32 there and back: a few units in the last place of 0.1
        ASSERT_NEAR(result.image.pixels()[i], frame.pixels()[i], 1e-6F);
      }
    }
  }
}

TEST(Deconvolve, SaysWhichControlsAreOfNoUseTogether) {
  const Network network = identity_network();
  const Image frame = noisy_frame(1, {40, 30});
  const auto notes = [&](const DeconvolveOptions& options) {
    std::string all;
    for (const std::string& note : deconvolve(frame.view(), network, options).report.notes)
      all += note + '\n';
    return all;
  };
  DeconvolveOptions options = starless();
  EXPECT_EQ(notes(options).find("unused"), std::string::npos) << "nothing was set";
  options.sharpen_stars = 0.5F;
  EXPECT_NE(notes(options).find("--no-stars treats all as non-stellar and leaves unused: "
                                "--sharpen-stars\n"),
            std::string::npos);
  options.correct_only = true;
  options.adjust_halos = 0.2F;
  options.correct_first = true;
  EXPECT_NE(notes(options).find("--correct-only sharpens nothing and leaves unused: "
                                "--sharpen-stars, --adjust-halos, --correct-first\n"),
            std::string::npos);
}

TEST(Deconvolve, PixelsWithoutDataStayAndDoNotSpread) {
  const Network network = identity_network();
  Image frame = noisy_frame(3, {300, 280});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < 280; ++y) {
      for (int x = 0; x < 10; ++x) frame.view()(c, y, x) = 0;
    }
    for (int y = 100; y < 105; ++y) {
      for (int x = 100; x < 105; ++x) frame.view()(c, y, x) = nan;
    }
  }
  const Deconvolved result = deconvolve(frame.view(), network, starless());
  EXPECT_EQ(result.report.pixels_without_data, 2800U + 25U);
  for (int y = 0; y < 280; ++y) {
    for (int x = 0; x < 300; ++x) {
      const float in = frame.view()(0, y, x), out = result.image.view()(0, y, x);
      if (std::isnan(in))
        EXPECT_TRUE(std::isnan(out));
      else
        ASSERT_NEAR(out, in, 1e-6F) << x << ' ' << y;
    }
  }
}

TEST(Deconvolve, RegionAndMaskSayWhereTheResultGoes) {
  const Network network = identity_network();
  const Image frame = noisy_frame(1, {300, 300});
  DeconvolveOptions options = starless();
  options.region = Rect{30, 40, 100, 50};
  const Deconvolved part = deconvolve(frame.view(), network, options);
  ASSERT_EQ(part.image.size(), (Size{100, 50}));
  EXPECT_NEAR(part.image.view()(0, 5, 7), frame.view()(0, 45, 37), 1e-6F);
  const Image nothing(1, frame.size());
  options.region.reset();
  options.mask = nothing.view();
  const Deconvolved masked = deconvolve(frame.view(), network, options);
  EXPECT_TRUE(
      std::equal(frame.pixels().begin(), frame.pixels().end(), masked.image.pixels().begin()));
}

TEST(Deconvolve, WideStarsAreProcessedOnABinnedGridAndReturnedAtFullSize) {
  const Network network = identity_network();
  Image frame = noisy_frame(1, {601, 503});
  add_stars(frame, {.fwhm_px = 11, .beta = 4}, 60, 64, 80);
  const Deconvolved result = deconvolve(frame.view(), network, {.check = false});
  EXPECT_EQ(result.report.binned_by, 2);
  ASSERT_EQ(result.image.size(), frame.size());
  // an identity network changes nothing on the binned grid, so nothing at full size either
  for (std::size_t i = 0; i < frame.pixels().size(); ++i)
    ASSERT_NEAR(result.image.pixels()[i], frame.pixels()[i], 1e-5F);
}

TEST(Deconvolve, StarsOfSinglePixelsStayAsTheyAre) {
  const Network network = identity_network();
  Image frame = noisy_frame(1, {400, 400});
  add_stars(frame, {.fwhm_px = 0.9F, .beta = 4}, 6, 16, 40);
  const Deconvolved result = deconvolve(frame.view(), network, {.check = false});
  ASSERT_FALSE(result.report.notes.empty());
  EXPECT_NE(result.report.notes[0].find("nothing to sharpen"), std::string::npos);
  EXPECT_TRUE(std::ranges::equal(result.image.pixels(), frame.pixels()));
}

TEST(Deconvolve, SameBytesForAnyNumberOfThreads) {
  const Network network = identity_network();
  const Image frame = noisy_frame(3, {520, 300});
  DeconvolveOptions one = starless(), two = starless();
  one.threads = 1;
  two.threads = 2;
  const Deconvolved a = deconvolve(frame.view(), network, one),
                    b = deconvolve(frame.view(), network, two);
  EXPECT_TRUE(
      std::equal(a.image.pixels().begin(), a.image.pixels().end(), b.image.pixels().begin()));
}

TEST(Deconvolve, AResultFromElsewhereIsJudgedAndNotChanged) {
  const Network network = identity_network();
  Image frame = noisy_frame(1, {400, 400});
  add_stars(frame, {.fwhm_px = 3, .beta = 4}, 6, 32, 60);
  DeconvolveOptions options;
  options.reblur = true;
  // not sharpened: as an answer to "nothing asked for" the frame itself is right
  options.sharpen_stars = options.sharpen_nonstellar = 0;
  options.judged = frame.view();
  const Deconvolved right = deconvolve(frame.view(), network, options);
  EXPECT_TRUE(std::ranges::equal(right.image.pixels(), frame.pixels()));
  ASSERT_TRUE(right.report.reblurring && right.report.trust);
  EXPECT_TRUE(right.report.reblurring->doubtful.empty());
  EXPECT_NEAR(right.report.trust->flux_ratio.median, 1, 1e-4);
  Image invented = frame.clone();
  const Image star = Psf{.fwhm_px = 3, .beta = 4}.kernel(32);
  for (int y = 0; y < 32; ++y) {
    for (int x = 0; x < 32; ++x) invented.view()(0, 95 + y, 35 + x) += 2 * star.view()(0, y, x);
  }
  options.judged = invented.view();
  const Deconvolved wrong = deconvolve(frame.view(), network, options);
  EXPECT_FALSE(wrong.report.reblurring->doubtful.empty());
  options.region = Rect{0, 0, 100, 100};
  EXPECT_THROW(deconvolve(frame.view(), network, options), Error);
}

TEST(Deconvolve, WhatMakesNoSenseIsRefused) {
  const Network network = identity_network();
  const Image frame = noisy_frame(1, {64, 64});
  const auto kind_of = [&](ConstView view, const DeconvolveOptions& options) {
    try {
      deconvolve(view, network, options);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::interrupted;  // stands for: not refused
  };
  DeconvolveOptions wrong = starless();
  wrong.sharpen_stars = 0.9F;
  EXPECT_EQ(kind_of(frame.view(), wrong), ErrorKind::usage);
  wrong = starless();
  wrong.region = Rect{60, 0, 10, 10};
  EXPECT_EQ(kind_of(frame.view(), wrong), ErrorKind::usage);
  wrong = starless();
  const Image small_mask(1, {3, 3});
  wrong.mask = small_mask.view();
  EXPECT_EQ(kind_of(frame.view(), wrong), ErrorKind::usage);
  EXPECT_EQ(kind_of(frame.view(), DeconvolveOptions{}), ErrorKind::failed);  // no stars, no PSF
  const Image empty(1, {64, 64}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(kind_of(empty.view(), starless()), ErrorKind::bad_input);
  const Image two(2, {64, 64});
  EXPECT_EQ(kind_of(two.view(), starless()), ErrorKind::bad_input);
}

TEST(Deconvolve, StopsWhenAsked) {
  const Network network = identity_network();
  const Image frame = noisy_frame(1, {600, 600});
  std::stop_source source;
  Progress progress;
  progress.stop = source.get_token();
  source.request_stop();
  EXPECT_THROW(deconvolve(frame.view(), network, starless(), progress), Error);
}

}  // namespace
}  // namespace limpid
