#include "multiframe/accelerator.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "frame_sets.h"

namespace limpid::multiframe {
namespace {

/// LibTorch's on the processor, with faults when they are wanted.
class Faulty : public Accelerator {
 public:
  /// `fault` is called before each batch with the number of the call and of the frames in it.
  explicit Faulty(std::function<void(int call, std::size_t frames)> fault = [](int, std::size_t) {})
      : fault_(std::move(fault)) {}
  [[nodiscard]] std::string name() const override { return "card:0"; }
  void begin(const AcceleratedTile& tile, ConstView estimate) override {
    inner_->begin(tile, estimate);
  }
  std::vector<AcceleratedSums> add(std::span<const AcceleratedFrame> frames) override {
    fault_(++calls_, frames.size());
    return inner_->add(frames);
  }
  void finish(MutableView numerator, MutableView denominator) override {
    inner_->finish(numerator, denominator);
  }
  void forget() override { inner_->forget(); }

 private:
  std::function<void(int, std::size_t)> fault_;
  std::unique_ptr<Accelerator> inner_ = make_torch_accelerator("cpu");
  int calls_ = 0;
};

synthetic::FrameSet small_set(int channels = 1) {
  synthetic::FrameSetSettings settings;
  settings.size = {150, 130};
  settings.frames = 5;
  settings.channels = channels;
  settings.fwhm_high = 4;
  settings.satellites = true;
  settings.cosmic_rays = 10;
  return synthetic::make_frame_set(settings);
}
std::vector<InputFrame> inputs_of(const synthetic::FrameSet& set) {
  auto inputs = set.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].psf = set.psfs[i].kernel(41);
  return inputs;
}
MultiframeOptions iterations(int count) {
  MultiframeOptions options;
  options.iterations = count;
  options.early_stop = false;
  options.device = {Device::Kind::cpu, 0};
  return options;
}

/// Over the brightest pixel; NaN must be at the same places.
double difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0, brightest = 0;
  for (std::size_t i = 0; i < a.pixels().size(); ++i) {
    const float p = a.pixels()[i], q = b.pixels()[i];
    if (std::isnan(p) && std::isnan(q)) continue;
    if (std::isnan(p) || std::isnan(q)) return std::numeric_limits<double>::infinity();
    most = std::max<double>(most, std::abs(p - q));
    brightest = std::max<double>(brightest, std::abs(p));
  }
  return most / brightest;
}
bool told(const Multiframe& result, const std::string& text) {
  return std::ranges::any_of(result.report.notes, [&](const std::string& note) {
    return note.find(text) != std::string::npos;
  });
}

TEST(Accelerator, GivesWhatTheProcessorGives) {
  synthetic::FrameSet set = small_set(3);
  for (Image& frame : set.frames) {  // borders without data
    for (int y = 0; y < frame.height(); ++y) {
      for (int c = 0; c < 3; ++c) frame.view()(c, y, 0) = std::numeric_limits<float>::quiet_NaN();
    }
  }
  const auto inputs = inputs_of(set);
  const std::vector<std::pair<const char*, std::function<void(MultiframeOptions&)>>> cases{
      {"as it is", [](MultiframeOptions&) {}},
      {"least squares", [](MultiframeOptions& o) { o.loss = Loss::l2; }},
      {"no rejection, fixed delta",
       [](MultiframeOptions& o) {
         o.reject_sigma = 0;
         o.huber_delta = 3;
       }},
      {"local noise, PSFs that change",
       [](MultiframeOptions& o) {
         o.variance_maps = true;
         o.psf_grid = 2;
         // a pixel of a star's core lies on the verge of rejection here: rounding decides
         o.reject_sigma = 0;
       }},
      {"super-resolution, one channel", [](MultiframeOptions& o) {
         o.super_resolution = 2;
         o.luma = true;
       }}};
  for (const auto& [what, change] : cases) {
    SCOPED_TRACE(what);
    MultiframeOptions options = iterations(5);
    change(options);
    const Multiframe processor = deconvolve_frames(inputs, options);
    const Multiframe device = deconvolve_frames_on(std::make_unique<Faulty>(), inputs, options);
    EXPECT_EQ(device.report.device, "card:0");
    EXPECT_EQ(processor.report.device, "cpu");
    // both compute in single precision, in another order
    EXPECT_LT(difference(processor.image, device.image), 1e-5);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const FrameSummary &a = processor.report.frames[i], &b = device.report.frames[i];
      // pixels on the verge count here or there
      EXPECT_NEAR(a.rejected, b.rejected, 5e-4);
      EXPECT_NEAR(a.softened, b.softened, 5e-4);
      EXPECT_NEAR(a.misfit, b.misfit, 1e-3);
    }
    EXPECT_NEAR(processor.report.iterations.back().chi, device.report.iterations.back().chi, 1e-3);
  }
}

TEST(Accelerator, ALostDeviceDoesNotLoseTheRun) {
  const synthetic::FrameSet set = small_set();
  const auto inputs = inputs_of(set);
  const Multiframe processor = deconvolve_frames(inputs, iterations(6));
  // a batch of four and one of one an iteration: lost in the middle of the third
  auto device = std::make_unique<Faulty>([](int call, std::size_t) {
    if (call >= 6) throw DeviceFault(false, "card:0 failed: fell off the bus");
  });
  const Multiframe result = deconvolve_frames_on(std::move(device), inputs, iterations(6));
  EXPECT_TRUE(told(result, "fell off the bus; going on with the processor"));
  EXPECT_EQ(result.report.device, "cpu");
  EXPECT_EQ(result.report.iterations.size(), 6U);
  EXPECT_LT(difference(processor.image, result.image), 1e-5);
}

TEST(Accelerator, ADeviceWithLittleMemoryTakesFewerFramesAtATime) {
  const synthetic::FrameSet set = small_set();
  const auto inputs = inputs_of(set);
  const Multiframe processor = deconvolve_frames(inputs, iterations(4));
  ASSERT_GT(processor.report.frames_at_once, 1);
  auto device = std::make_unique<Faulty>([](int, std::size_t frames) {
    if (frames > 1) throw DeviceFault(true, "card:0: out of memory");
  });
  const Multiframe result = deconvolve_frames_on(std::move(device), inputs, iterations(4));
  EXPECT_TRUE(told(result, "out of memory; going on with 1 frames at a time"));
  EXPECT_EQ(result.report.device, "card:0");
  EXPECT_EQ(result.report.frames_at_once, 1);
  EXPECT_LT(difference(processor.image, result.image), 1e-5);
}

TEST(Accelerator, ADeviceWithTooLittleMemoryForOneFrameIsLeft) {
  const synthetic::FrameSet set = small_set();
  const auto inputs = inputs_of(set);
  auto device = std::make_unique<Faulty>(
      [](int, std::size_t) { throw DeviceFault(true, "card:0: out of memory"); });
  const Multiframe result = deconvolve_frames_on(std::move(device), inputs, iterations(4));
  EXPECT_TRUE(told(result, "going on with the processor"));
  const Multiframe processor = deconvolve_frames(inputs, iterations(4));
  // nothing came from the device: the processor's own result, byte by byte
  EXPECT_TRUE(std::ranges::equal(processor.image.pixels(), result.image.pixels()));
}

TEST(Accelerator, WhatLibTorchThrowsLeadsToTheProcessor) {
  try {
    if (open_accelerator({Device::Kind::cuda, 0})) GTEST_SKIP() << "there is a CUDA device";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::exhausted);
  }
  // no device, no driver: as near as one comes to a card that is gone
  const synthetic::FrameSet set = small_set();
  const Multiframe result =
      deconvolve_frames_on(make_torch_accelerator("cuda:0"), inputs_of(set), iterations(2));
  EXPECT_TRUE(told(result, "cuda:0 failed: "));
  EXPECT_EQ(result.report.iterations.size(), 2U);
}

}  // namespace
}  // namespace limpid::multiframe
