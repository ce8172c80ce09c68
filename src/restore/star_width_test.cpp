#include "restore/star_width.h"

#include <gtest/gtest.h>

#include <atomic>

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

TEST(SharpeningToRequest, CorrectsWhatTheNetworkDeliversTooLittle) {
  const Image frame = synthetic::make_field(settings()).frame;
  const StarCatalogue catalogue = detect_stars(frame.view());
  // four fifths of what is requested, and less the more it is
  const auto delivered = [](float request) { return 0.8F * request - 0.1F * request * request; };
  std::atomic<int> windows = 0;
  const auto restore = [&](Rect window, float request) {
    ++windows;
    return copy(narrowed(1 - delivered(request)).view().crop(window));
  };
  for (const float asked : {0.2F, 0.4F}) {
    const float request = sharpening_to_request(frame.view(), catalogue, asked, restore, 2);
    EXPECT_NEAR(delivered(request), asked, 0.01) << asked;
  }
  EXPECT_GT(windows, 0);
  EXPECT_FLOAT_EQ(sharpening_to_request(frame.view(), catalogue, 0.65F, restore, 2), 0.7F)
      << "no more than the network was trained for";
}

TEST(SharpeningToRequest, IsWhatWasAskedWhereNothingCanBeMeasured) {
  const Image frame = synthetic::make_field(settings()).frame;
  const auto never = [](Rect, float) -> Image {
    ADD_FAILURE() << "there is nothing to try";
    return {};
  };
  const StarCatalogue none{{}, {{0.1F, 0.001F}}, {}, frame.view().size()};
  EXPECT_EQ(sharpening_to_request(frame.view(), none, 0.3F, never, 1), 0.3F);
  EXPECT_EQ(sharpening_to_request(frame.view(), detect_stars(frame.view()), 0, never, 1), 0);
  const Image small = copy(frame.view().crop({0, 0, 100, 100}));
  EXPECT_EQ(sharpening_to_request(small.view(), detect_stars(small.view()), 0.3F, never, 1), 0.3F);
}

TEST(SharpeningToRequest, GoesOnWithTheRequestWhenMoreDoesNotHelp) {
  const Image frame = synthetic::make_field(settings()).frame;
  const auto unchanged = [&](Rect window, float) { return copy(frame.view().crop(window)); };
  EXPECT_EQ(sharpening_to_request(frame.view(), detect_stars(frame.view()), 0.3F, unchanged, 1),
            0.3F);
}

}  // namespace
}  // namespace limpid
