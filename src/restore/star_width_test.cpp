#include "restore/star_width.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include <limpid/network.h>

#include "synthetic.h"

namespace limpid {
namespace {

synthetic::FieldSettings settings() {
  synthetic::FieldSettings s;
  s.size = {600, 500};
  s.stars = 60;
  s.snr_min = 100;
  s.snr_max = 400;
  s.separation_px = 45;
  s.psf = [](float, float, int) { return Psf{4.0F, 3.5F, 0, 0, 0, 0}; };
  return s;
}

/// The field with stars `ratio` times as wide.
Image narrowed(float ratio) {
  auto s = settings();
  s.psf = [ratio](float, float, int) { return Psf{4.0F * ratio, 3.5F, 0, 0, 0, 0}; };
  return synthetic::make_field(s).frame;
}

float request_of(ConstView frame, const StarCatalogue& catalogue, float asked,
                 const RestoreWindow& restore, Gains known = {}) {
  return sharpening_to_request(StarTrials(frame, catalogue, 2), asked, restore, known, 2);
}

TEST(SharpeningToRequest, CorrectsWhatTheNetworkDeliversTooLittle) {
  const Image frame = synthetic::make_field(settings()).frame;
  const StarCatalogue catalogue = detect_stars(frame.view());
  const StarTrials trials(frame.view(), catalogue, 2);
  // four fifths of what is requested, and less the more it is
  const auto delivered = [](float request) { return 0.8F * request - 0.1F * request * request; };
  std::map<float, Image> results;
  for (const float request : tried_requests)
    results.emplace(request, narrowed(1 - delivered(request)));
  std::atomic<int> windows = 0;
  const auto restore = [&](std::size_t index, float request) {
    ++windows;
    return copy(results.at(request).view().crop(trials.windows()[index]));
  };
  const auto count = static_cast<int>(trials.windows().size());
  Gains known;
  for (const float asked : {0.1F, 0.2F, 0.4F, 0.5F}) {
    const float request = sharpening_to_request(trials, asked, restore, known, 2);
    EXPECT_NEAR(delivered(request), asked, 0.01) << asked;
  }
  EXPECT_FLOAT_EQ(sharpening_to_request(trials, 0.65F, restore, known, 2), 0.7F)
      << "no more than the network was trained for";
  EXPECT_LE(windows, 4 * count) << "each request is tried once";
  // what was known before makes no difference
  Gains none;
  windows = 0;
  const float fresh = sharpening_to_request(trials, 0.4F, restore, none, 1);
  EXPECT_EQ(fresh, sharpening_to_request(trials, 0.4F, restore, known, 2));
  EXPECT_LE(windows, 2 * count);
}

TEST(StarTrials, WindowsBeginWhereTheNetworksBlocksDo) {
  const Image frame = synthetic::make_field(settings()).frame;
  const StarTrials trials(frame.view(), detect_stars(frame.view()), 2);
  ASSERT_FALSE(trials.windows().empty());
  for (const Rect& window : trials.windows()) {
    EXPECT_EQ(window.x % Network::granularity_px(), 0);
    EXPECT_EQ(window.y % Network::granularity_px(), 0);
    EXPECT_EQ(intersect(window, {0, 0, 600, 500}), window);
  }
}

TEST(SharpeningToRequest, IsWhatWasAskedWhereNothingCanBeMeasured) {
  const Image frame = synthetic::make_field(settings()).frame;
  const auto never = [](std::size_t, float) -> Image {
    ADD_FAILURE() << "there is nothing to try";
    return {};
  };
  const StarCatalogue none{{}, {{0.1F, 0.001F}}, {}, frame.view().size()};
  EXPECT_EQ(request_of(frame.view(), none, 0.3F, never), 0.3F);
  EXPECT_EQ(request_of(frame.view(), detect_stars(frame.view()), 0, never), 0);
  const Image small = copy(frame.view().crop({0, 0, 80, 80}));
  EXPECT_EQ(request_of(small.view(), detect_stars(small.view()), 0.3F, never), 0.3F);
}

TEST(SharpeningToRequest, GoesOnWithTheRequestWhenMoreDoesNotHelp) {
  const Image frame = synthetic::make_field(settings()).frame;
  const StarCatalogue catalogue = detect_stars(frame.view());
  const StarTrials trials(frame.view(), catalogue, 2);
  const auto unchanged = [&](std::size_t index, float) {
    return copy(frame.view().crop(trials.windows()[index]));
  };
  Gains known;
  EXPECT_EQ(sharpening_to_request(trials, 0.3F, unchanged, known, 1), 0.3F);
}

}  // namespace
}  // namespace limpid
