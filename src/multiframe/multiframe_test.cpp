#include <limpid/multiframe.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/statistics.h"
#include "frame_sets.h"
#include "multiframe/seed.h"
#include "multiframe/survey.h"

namespace limpid {
namespace {

using synthetic::FrameSet;
using synthetic::FrameSetSettings;
using synthetic::TrueStar;

constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

/// Light within `radius` of a place over the median of a ring around.
double aperture(ConstView image, float x, float y, float radius, int channel = 0) {
  std::vector<float> ring;
  double sum = 0;
  int inside = 0;
  const int reach = static_cast<int>(std::ceil(1.8F * radius));
  const int x0 = static_cast<int>(std::lround(x)), y0 = static_cast<int>(std::lround(y));
  for (int v = std::max(0, y0 - reach); v <= std::min(image.height() - 1, y0 + reach); ++v) {
    for (int u = std::max(0, x0 - reach); u <= std::min(image.width() - 1, x0 + reach); ++u) {
      const float away = std::hypot(static_cast<float>(u) - x, static_cast<float>(v) - y);
      if (away <= radius) {
        sum += image(channel, v, u);
        ++inside;
      } else if (away > 1.4F * radius) {
        ring.push_back(image(channel, v, u));
      }
    }
  }
  return sum - inside * static_cast<double>(median(ring));
}

/// Light of a star within 12 px over its true light, both over a ring, from the difference to the
/// truth (or to another image): no step depends on the order of the pixels, so that a nebula drawn
/// sharper than the truth's 2 px counts for nothing. (The median of a ring falls when filaments
/// become sharper: by that measure stars before a nebula came out 2 % too bright which are right
/// within 0.2 %.)
double light_against_truth(ConstView image, ConstView truth, const TrueStar& star) {
  double inside = 0, ring = 0;
  int inside_count = 0, ring_count = 0;
  const int x0 = static_cast<int>(std::lround(star.x)), y0 = static_cast<int>(std::lround(star.y));
  for (int y = std::max(0, y0 - 22); y <= std::min(image.height() - 1, y0 + 22); ++y) {
    for (int x = std::max(0, x0 - 22); x <= std::min(image.width() - 1, x0 + 22); ++x) {
      const float away = std::hypot(static_cast<float>(x) - star.x, static_cast<float>(y) - star.y);
      const double difference = static_cast<double>(image(0, y, x)) - truth(0, y, x);
      if (away <= 12) {
        inside += difference;
        ++inside_count;
      } else if (away > 17 && away <= 22) {
        ring += difference;
        ++ring_count;
      }
    }
  }
  return 1 + (inside - ring / ring_count * inside_count) / star.flux;
}

struct StarFigures {
  int stars = 0;
  double dx = 0, dy = 0, worst_shift = 0, fwhm_px = 0, flux_ratio = 0;
};

/// Medians over the true stars; `worst_shift` against `reference` (another image of the sky) is the
/// 90 % quantile.
StarFigures measure_stars(ConstView image, const std::vector<TrueStar>& stars, int factor = 1,
                          const StarCatalogue* reference = nullptr, int channel = 0,
                          float least_snr = 100) {
  const StarCatalogue catalogue = detect_stars(image.channel(channel));
  const auto f = static_cast<float>(factor);
  std::vector<float> dx, dy, fwhm, flux, shift;
  for (const TrueStar& star : stars) {
    const float x = (star.x + 0.5F) * f - 0.5F, y = (star.y + 0.5F) * f - 0.5F;
    const Star* found = synthetic::find_star(catalogue, x, y, 2 * f);
    if (found == nullptr || found->fits.empty() || found->snr < least_snr) continue;
    const StarFit& fit = found->fits[0];
    dx.push_back(fit.x - x);
    dy.push_back(fit.y - y);
    fwhm.push_back(fit.psf.fwhm_px);
    flux.push_back(static_cast<float>(aperture(image, x, y, 12 * f, channel)) / star.flux);
    if (reference == nullptr) continue;
    const Star* other = synthetic::find_star(*reference, x, y, 2 * f);
    if (other != nullptr && !other->fits.empty())
      shift.push_back(std::hypot(fit.x - other->fits[0].x, fit.y - other->fits[0].y));
  }
  StarFigures figures;
  figures.stars = static_cast<int>(dx.size());
  if (dx.empty()) return figures;
  figures.dx = median(dx);
  figures.dy = median(dy);
  figures.fwhm_px = median(fwhm);
  figures.flux_ratio = median(flux);
  if (!shift.empty()) figures.worst_shift = quantile(shift, 0.9);
  return figures;
}

double rms_difference(ConstView a, ConstView b, float level, int margin) {
  double sum = 0;
  int count = 0;
  for (int y = margin; y < a.height() - margin; ++y) {
    for (int x = margin; x < a.width() - margin; ++x) {
      const double difference = static_cast<double>(a(0, y, x)) - level - b(0, y, x);
      sum += difference * difference;
      ++count;
    }
  }
  return std::sqrt(sum / count);
}

double largest_difference(const Image& a, const Image& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.pixels().size(); ++i)
    most = std::max(most, std::abs(static_cast<double>(a.pixels()[i]) - b.pixels()[i]));
  return most;
}
double largest(const Image& a) {
  double most = 0;
  for (const float value : a.pixels()) most = std::max(most, std::abs(static_cast<double>(value)));
  return most;
}

/// The set that most claims are about: seeing from 2.4 to 6 px, satellites, cosmic rays, a sky and
/// a transparency that change.
struct Night {
  FrameSet set;
  Multiframe result;
  Image mean, median_stack, clipped_stack;
};
const Night& night() {
  static const Night made = [] {
    FrameSetSettings settings;
    settings.satellites = true;
    settings.cosmic_rays = 30;
    settings.sky_step = 3;
    settings.scale_step = 0.1F;
    Night n;
    n.set = synthetic::make_frame_set(settings);
    const auto inputs = n.set.inputs();
    n.result = deconvolve_frames(inputs);
    n.mean = stack_frames(inputs);
    n.median_stack = stack_frames(inputs, Stacking::median);
    n.clipped_stack = stack_frames(inputs, Stacking::clipped);
    return n;
  }();
  return made;
}

/// A small quick set of known PSFs, for what needs many runs.
FrameSetSettings small_settings() {
  FrameSetSettings settings;
  settings.size = {150, 130};
  settings.frames = 5;
  settings.fwhm_high = 4;
  return settings;
}
std::vector<InputFrame> with_true_psfs(const FrameSet& set) {
  auto inputs = set.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].psf = set.psfs[i].kernel(41);
  return inputs;
}
MultiframeOptions few_iterations(int iterations) {
  MultiframeOptions options;
  options.iterations = iterations;
  options.early_stop = false;
  return options;
}

TEST(MultiFrame, StarsStayWhereTheMeanStackHasThem) {
  const StarCatalogue reference = detect_stars(night().mean.view());
  const StarFigures stars =
      measure_stars(night().result.image.view(), night().set.stars, 1, &reference);
  ASSERT_GT(stars.stars, 25);
  // bounds of the issue: kernels that are a pixel off drift by half a pixel in four iterations
  EXPECT_LT(std::abs(stars.dx), 0.02);
  EXPECT_LT(std::abs(stars.dy), 0.02);
  // Single stars: in the mean stack, 3.3 px wide and with trails, places of S/N 100 are off by some
  // hundredths themselves (0.08 measured here); bright ones hold the bound.
  EXPECT_LT(stars.worst_shift, 0.1);
  const StarFigures bright =
      measure_stars(night().result.image.view(), night().set.stars, 1, &reference, 0, 1000);
  ASSERT_GT(bright.stars, 5);
  EXPECT_LT(bright.worst_shift, 0.02);
}

TEST(MultiFrame, StarLightIsRightWithinHalfAPerCentAfterTwentyIterations) {
  ASSERT_EQ(night().result.report.iterations.size(), 20U);
  const StarFigures stars = measure_stars(night().result.image.view(), night().set.stars);
  EXPECT_NEAR(stars.flux_ratio, 1, 0.005);
}

TEST(MultiFrame, StarLightIsRightBeforeANebulaToo) {
  FrameSetSettings settings;
  settings.nebula_sigma = 30;
  settings.gain = 2;
  settings.sky_step = 2;
  settings.scale_step = 0.1F;
  settings.seed = 21;
  const FrameSet set = synthetic::make_frame_set(settings);
  // filaments must not pass for wings of the PSFs
  const Multiframe result = deconvolve_frames(set.inputs(), few_iterations(20));
  const Image truth = set.ideal(2.0F);
  std::vector<float> light;
  for (const TrueStar& star : set.stars) {
    if (star.flux > 2000)
      light.push_back(
          static_cast<float>(light_against_truth(result.image.view(), truth.view(), star)));
  }
  ASSERT_GT(light.size(), 15U);
  EXPECT_NEAR(median(light), 1, 0.005);
}

TEST(MultiFrame, GradientsThatMoveInANightAreMatched) {
  FrameSetSettings settings = small_settings();
  settings.size = {256, 256};
  const FrameSet even = synthetic::make_frame_set(settings);
  FrameSet set = synthetic::make_frame_set(settings);
  // the Moon goes round: a slope and a bulge, six sigmas from one corner to the other, other in
  // each frame; what all have in common, twenty sigmas across, is the sky's own and stays
  const auto u = [](int x) { return static_cast<float>(2 * x - 255) / 256; };
  const auto common = [&](int x, int y) { return 10 * u(x) + 3 * u(y) * u(y); };
  for (std::size_t i = 0; i < set.frames.size(); ++i) {
    const float angle = 6.2832F * static_cast<float>(i) / static_cast<float>(set.frames.size());
    for (int y = 0; y < 256; ++y) {
      for (int x = 0; x < 256; ++x) {
        const float along = u(x) * std::cos(angle) + u(y) * std::sin(angle);
        set.frames[i].view()(0, y, x) +=
            common(x, y) + 3 * along + 1.5F * std::sin(angle) * along * along;
      }
    }
  }
  const auto inputs = with_true_psfs(set);
  const MultiframeOptions options = few_iterations(15);
  const multiframe::Survey survey = multiframe::survey(inputs, options, true, {});
  for (const multiframe::Member& member : survey.members)
    EXPECT_FALSE(member.sky_surface[0].flat());
  const Multiframe result = deconvolve_frames(inputs, options);
  const Multiframe plain = deconvolve_frames(with_true_psfs(even), options);
  // the difference to the set without gradients is what all frames have in common
  std::vector<float> rest;
  for (int y = 8; y < 248; ++y) {
    for (int x = 8; x < 248; ++x)
      rest.push_back(result.image.view()(0, y, x) - plain.image.view()(0, y, x) - common(x, y));
  }
  // what is left are the weights that the noise changes; with levels alone it is 0.36
  EXPECT_LT(robust_spread(rest).sigma, 0.15F);
  // the residuals are noise and nothing else; with levels alone they are 1.96 times as large
  EXPECT_NEAR(result.report.iterations.back().chi, plain.report.iterations.back().chi, 0.03);
}

TEST(MultiFrame, AnEvenSkyIsMatchedByItsLevelAlone) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = with_true_psfs(set);
  const multiframe::Survey survey = multiframe::survey(inputs, {}, true, {});
  for (const multiframe::Member& member : survey.members) {
    for (std::size_t i = 1; i < 6; ++i) EXPECT_EQ(member.sky_surface[0].coefficients[i], 0);
    EXPECT_NEAR(member.sky_surface[0].coefficients[0], 0, 0.3);
  }
}

TEST(MultiFrame, StarsAreNoWiderThanTheSharpestFrames) {
  const StarFigures stars = measure_stars(night().result.image.view(), night().set.stars);
  double sharpest = 100;
  for (const Psf& psf : night().set.psfs) sharpest = std::min<double>(sharpest, psf.fwhm_px);
  EXPECT_LT(stars.fwhm_px, sharpest);
}

TEST(MultiFrame, ErrorIsFarBelowTheMedianStacksAndEveryFrames) {
  const Image ideal = night().set.ideal(2.0F);
  const auto error = [&](const Image& image) {
    const float sky = measure_sky(image.view())[0].sky;
    return rms_difference(image.view(), ideal.view(), sky, 12);
  };
  const double result = error(night().result.image);
  EXPECT_LT(result, 0.5 * error(night().median_stack));
  EXPECT_LT(result, 0.5 * error(night().clipped_stack));
  for (const Image& frame : night().set.frames) EXPECT_LT(result, 0.6 * error(frame));
}

TEST(MultiFrame, OutliersLeaveLessThanAThirdOfASigma) {
  const Night& n = night();
  const Image ideal = n.set.ideal(2.0F);
  const float sky = measure_sky(n.result.image.view())[0].sky;
  double result = 0, mean = 0;
  int count = 0;
  for (int y = 12; y < ideal.height() - 12; ++y) {
    for (int x = 12; x < ideal.width() - 12; ++x) {
      // on the sky: elsewhere the stars' own errors would be counted
      if (n.set.outliers.view()(0, y, x) == 0 || ideal.view()(0, y, x) > 1) continue;
      result += n.result.image.view()(0, y, x) - sky;
      mean += n.mean.view()(0, y, x) - sky;
      ++count;
    }
  }
  ASSERT_GT(count, 1000);
  EXPECT_GT(mean / count, 3) << "the outliers of this test are no challenge";
  EXPECT_LT(std::abs(result / count), 0.3 * n.set.settings.sigma);
}

TEST(MultiFrame, TheLevelOfTheSkyStays) {
  // kernels that do not sum to one raise or lower it by what is missing
  double mean = 0;
  for (const Image& frame : night().set.frames)
    mean += measure_sky(frame.view())[0].sky / static_cast<double>(night().set.frames.size());
  EXPECT_NEAR(measure_sky(night().result.image.view())[0].sky, mean, 0.2);
}

TEST(MultiFrame, GoodStarsAreNotDiscardedWhenPsfsAreMeasured) {
  const Night& n = night();
  int taken = 0;
  for (std::size_t i = 0; i < n.set.psfs.size(); ++i) {
    const FrameSummary& frame = n.result.report.frames[i];
    EXPECT_TRUE(frame.used) << frame.reason;
    // Of 49. Of the frame of 5.1 px, which has a trail, 26 are taken: the faintest have S/N 45
    // there, and 30 cosmic rays and the trail spoil others.
    EXPECT_GE(frame.stars, 25) << frame.name;
    taken += frame.stars;
    EXPECT_NEAR(frame.fwhm_px, n.set.psfs[i].fwhm_px, 0.03F * n.set.psfs[i].fwhm_px) << frame.name;
  }
  EXPECT_GT(taken, 0.75 * 49 * static_cast<double>(n.set.psfs.size()));  // 314 of 392 measured
}

TEST(MultiFrame, SkyAndScaleOfEachFrameAreFound) {
  const Night& n = night();
  for (std::size_t i = 0; i < n.set.frames.size(); ++i) {
    const double part = static_cast<double>(i) / 7, scale = 1 + 0.1 * (part - 0.5);
    EXPECT_NEAR(n.result.report.frames[i].scale, scale, 0.02);
    EXPECT_NEAR(n.result.report.frames[i].sky, 100 + 3.0 * static_cast<double>(i), 0.5);
  }
}

TEST(MultiFrame, DoesNotStopBeforeTheStarsHaveConverged) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = with_true_psfs(set);
  MultiframeOptions options;
  options.iterations = 400;
  const Multiframe stopped = deconvolve_frames(inputs, options);
  ASSERT_TRUE(stopped.report.stopped_early);
  const int iterations = static_cast<int>(stopped.report.iterations.size());
  EXPECT_GT(iterations, 20);
  const Multiframe longer = deconvolve_frames(inputs, few_iterations(iterations + iterations / 4));
  const auto peak = [&](const Image& image) {
    std::vector<float> peaks;
    for (const TrueStar& star : set.stars) {
      float most = 0;
      for (int y = -1; y <= 1; ++y) {
        for (int x = -1; x <= 1; ++x)
          most = std::max(most, image.view()(0, static_cast<int>(std::lround(star.y)) + y,
                                             static_cast<int>(std::lround(star.x)) + x));
      }
      peaks.push_back(most);
    }
    return median(peaks);
  };
  // Peaks of points rise without end, as the logarithm of the iterations: a quarter more than the
  // 219 that it takes here change them by 5.5 %; after 4 of 20 it would be 90.
  EXPECT_NEAR(peak(longer.image) / peak(stopped.image), 1, 0.07);
  // what does converge, the light, has converged
  std::vector<float> light;
  for (const TrueStar& star : set.stars)
    light.push_back(
        static_cast<float>(light_against_truth(longer.image.view(), stopped.image.view(), star)));
  EXPECT_NEAR(median(light), 1, 0.001);
}

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
  std::barrier meet(2);
  std::vector<std::span<float>> parts(2);
  std::vector<Image> images(2);
  {
    std::vector<std::jthread> hosts;
    for (int rank = 0; rank < 2; ++rank) {
      hosts.emplace_back([&, rank] {
        const auto own = static_cast<std::size_t>(rank);
        MultiframeOptions options = few_iterations(5);
        options.hosts = {rank, 2, [&, own](std::span<float> values) {
                           parts[own] = values;
                           meet.arrive_and_wait();
                           if (own == 0) {
                             for (std::size_t i = 0; i < values.size(); ++i)
                               parts[0][i] = parts[1][i] = parts[0][i] + parts[1][i];
                           }
                           meet.arrive_and_wait();
                         }};
        images[own] = deconvolve_frames(inputs, options).image;
      });
    }
  }
  EXPECT_LT(largest_difference(alone.image, images[0]), 1e-5 * largest(alone.image));
  EXPECT_TRUE(std::ranges::equal(images[0].pixels(), images[1].pixels()));
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

TEST(MultiFrame, BadFramesAreNamedAndTheRestGoOn) {
  FrameSet set = synthetic::make_frame_set(small_settings());
  FrameSetSettings other = small_settings();
  other.seed = 99;
  other.spacing_px = 33;
  const FrameSet elsewhere = synthetic::make_frame_set(other);
  auto inputs = set.inputs();
  const auto add = [&](const std::string& name, std::function<Image(Rect)> read) {
    InputFrame& frame = inputs.emplace_back();
    frame.name = name;
    frame.size = set.settings.size;
    frame.channels = 1;
    frame.read = std::move(read);
  };
  const auto showing = [](const Image& image) {
    return [&image](Rect rect) { return copy(image.view().crop(rect)); };
  };
  add("broken.fits",
      [](Rect) -> Image { throw Error(ErrorKind::bad_input, "broken.fits: cut short"); });
  const Image constant(1, set.settings.size, 7);
  add("empty.fits", showing(constant));
  add("elsewhere.fits", showing(elsewhere.frames[0]));
  const Image away = extract_mirrored(set.frames[1].view(), {25, 14, 150, 130});
  add("misaligned.fits", showing(away));
  const Multiframe result = deconvolve_frames(inputs, few_iterations(1));
  ASSERT_EQ(result.report.frames.size(), 9U);
  EXPECT_EQ(result.report.frames_used, 5);
  for (std::size_t i = 0; i < 9; ++i)
    EXPECT_EQ(result.report.frames[i].used, i < 5) << result.report.frames[i].name;
  EXPECT_EQ(result.report.notes.size(), 4U);
  EXPECT_NE(result.report.frames[5].reason.find("cut short"), std::string::npos);
  EXPECT_NE(result.report.frames[6].reason.find("empty"), std::string::npos);
  EXPECT_THROW(deconvolve_frames(std::span(inputs).subspan(4, 3), few_iterations(1)), Error);
}

TEST(MultiFrame, FramesOfUnequalSizeAreCutToTheCommonPart) {
  FrameSet set = synthetic::make_frame_set(small_settings());
  set.frames[2] = extract_mirrored(set.frames[2].view(), {0, 0, 140, 150});
  EXPECT_EQ(deconvolve_frames(set.inputs(), few_iterations(1)).image.size(), (Size{140, 130}));
}

TEST(MultiFrame, BordersWithoutDataAreLeftOutAndComeBackOnlyWhereNoFrameSeesAnything) {
  FrameSetSettings settings = small_settings();
  FrameSet set = synthetic::make_frame_set(settings);
  for (std::size_t i = 0; i < set.frames.size(); ++i) {
    const MutableView view = set.frames[i].view();
    // registration leaves zeros, or NaN; 8 columns are empty in every frame
    const int empty = 8 + 5 * static_cast<int>(i);
    for (int y = 0; y < view.height(); ++y) {
      for (int x = 0; x < empty; ++x) view(0, y, x) = i % 2 == 0 ? 0.0F : no_data;
    }
  }
  const Multiframe result = deconvolve_frames(with_true_psfs(set), few_iterations(20));
  const ConstView image = result.image.view();
  for (int y = 0; y < image.height(); ++y) {
    EXPECT_TRUE(std::isnan(image(0, y, 3)));
    // two more columns are what registration mixes with nothing
    for (int x = 11; x < image.width(); ++x) ASSERT_TRUE(std::isfinite(image(0, y, x))) << x;
  }
  for (const int y : {0, 1, image.height() - 2, image.height() - 1}) {
    for (const int x : {11, 12, image.width() - 2, image.width() - 1})
      EXPECT_NEAR(image(0, y, x), settings.sky, 6) << "an artefact in the corner " << x << ' ' << y;
  }
}

// A fault of the program that this one follows: single pixels in the corners, where kernels wrap.
TEST(MultiFrame, NoPixelOfACornerStandsOut) {
  FrameSetSettings settings = small_settings();
  FrameSet set = synthetic::make_frame_set(settings);
  const auto inputs = with_true_psfs(set);
  for (const int factor : {1, 2}) {
    MultiframeOptions options = few_iterations(15);
    options.super_resolution = factor;
    const Multiframe result = deconvolve_frames(inputs, options);
    const ConstView image = result.image.view();
    const auto blocks = static_cast<float>(factor * factor);
    for (const int y0 : {0, image.height() - 4}) {
      for (const int x0 : {0, image.width() - 4}) {
        const bool star = std::ranges::any_of(set.stars, [&](const auto& s) {
          const auto f = static_cast<float>(factor);
          return std::hypot(f * s.x - static_cast<float>(x0), f * s.y - static_cast<float>(y0)) <
                 10 * f;
        });
        if (star) continue;
        for (int y = y0; y < y0 + 4; ++y) {
          // the stack's noise is 0.45, which sharpening raises
          for (int x = x0; x < x0 + 4; ++x)
            EXPECT_NEAR(image(0, y, x) * blocks, settings.sky, 4)
                << x << ", " << y << " of " << factor;
        }
      }
    }
  }
}

TEST(MultiFrame, PsfsThatChangeOverTheFrameNeedAGridAndShowNoSeam) {
  FrameSetSettings settings;
  settings.size = {300, 300};
  settings.frames = 1;
  settings.snr_low = 300;
  FrameSet set = synthetic::make_frame_set(settings);
  set.frames.clear();
  // elongation grows from the left edge to the right
  const auto psf_at = [](float x) { return Psf{3, 3, 0.45F * x / 300, 0, 0, 0}; };
  for (int i = 0; i < 3; ++i) {
    Image frame(1, settings.size, 100);
    for (const TrueStar& star : set.stars) synthetic::add_star(frame.view(), psf_at(star.x), star);
    synthetic::add_noise(frame.view(), 1, 0, 100, static_cast<std::uint32_t>(i) + 3);
    set.frames.push_back(std::move(frame));
  }
  const auto inputs = set.inputs();
  const auto spread = [&](int grid) {
    MultiframeOptions options = few_iterations(30);
    options.psf_grid = grid;
    const Multiframe result = deconvolve_frames(inputs, options);
    // the sky is as even over the border between cells as elsewhere
    const SkyLevel sky = measure_sky(result.image.view())[0];
    for (const int x : {75, 100, 125, 150, 175, 200}) {
      std::vector<float> column(300);
      for (int y = 0; y < 300; ++y)
        column[static_cast<std::size_t>(y)] = result.image.view()(0, y, x);
      EXPECT_NEAR(median(column), sky.sky, 0.3F * sky.sigma) << x;
    }
    const StarCatalogue catalogue = detect_stars(result.image.view());
    std::vector<float> left, right;
    for (const TrueStar& star : set.stars) {
      const Star* found = synthetic::find_star(catalogue, star.x, star.y, 2);
      if (found == nullptr || found->fits.empty()) continue;
      if (star.x < 100) left.push_back(found->fits[0].psf.e1);
      if (star.x > 200) right.push_back(found->fits[0].psf.e1);
    }
    return median(right) - median(left);
  };
  // Stars that are not yet points keep some of their PSF's elongation (0.29 here after 30
  // iterations); one kernel for all adds the opposite of what the left half lacks (0.48).
  EXPECT_LT(spread(4), 0.7F * spread(1));
}

TEST(MultiFrame, VarianceMapsFavourTheQuietPartsOfAFrame) {
  FrameSetSettings settings = small_settings();
  settings.size = {256, 256};
  FrameSet set = synthetic::make_frame_set(settings);
  // the left of the first two frames is six times as noisy: a cloud lit by the Moon
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 6);
  for (int i = 0; i < 2; ++i) {
    const MutableView view = set.frames[static_cast<std::size_t>(i)].view();
    for (int y = 0; y < 256; ++y) {
      for (int x = 0; x < 90; ++x) view(0, y, x) += normal(random);
    }
  }
  const auto noise = [&](bool maps) {
    MultiframeOptions options = few_iterations(8);
    options.variance_maps = maps;
    options.loss = Loss::l2;
    const Multiframe result = deconvolve_frames(with_true_psfs(set), options);
    return measure_sky(result.image.view().crop({10, 10, 64, 230}))[0].sigma;
  };
  const float with = noise(true), without = noise(false);
  EXPECT_LT(with, 0.9F * without);
}

/// Stars from S/N 300 to 4000, all cores cut off at one level as by a detector.
FrameSet clipped_set() {
  FrameSetSettings settings = small_settings();
  settings.size = {256, 256};
  settings.snr_low = 300;
  settings.snr_high = 4000;
  FrameSet set = synthetic::make_frame_set(settings);
  for (Image& frame : set.frames) {
    for (float& pixel : frame.pixels()) pixel = std::min(pixel, 700.0F);
  }
  return set;
}

TEST(MultiFrame, StarMasksMakeTheWingsOfClippedStarsTruer) {
  const FrameSet set = clipped_set();
  const Image ideal = set.ideal(2.0F);
  const auto error_of_wings = [&](bool masks) {
    MultiframeOptions options = few_iterations(20);
    options.star_masks = masks;
    const Multiframe result = deconvolve_frames(with_true_psfs(set), options);
    double sum = 0;
    int count = 0;
    for (const TrueStar& star : set.stars) {
      if (star.flux < 20000) continue;  // the others are not clipped in every frame
      const int x0 = static_cast<int>(std::lround(star.x)),
                y0 = static_cast<int>(std::lround(star.y));
      for (int y = y0 - 10; y <= y0 + 10; ++y) {
        for (int x = x0 - 10; x <= x0 + 10; ++x) {
          const float away =
              std::hypot(static_cast<float>(x) - star.x, static_cast<float>(y) - star.y);
          if (away <= 5 || away > 10) continue;
          sum += std::abs(result.image.view()(0, y, x) - set.settings.sky - ideal.view()(0, y, x));
          ++count;
        }
      }
    }
    EXPECT_GT(count, 900);
    return sum / count;
  };
  // cores taken for what they are not dig into the wings: 0.65 sigmas of a frame, with masks 0.42
  EXPECT_LT(error_of_wings(true), 0.8 * error_of_wings(false));
}

TEST(MultiFrame, NoDarkRingsAroundStars) {
  const FrameSet clipped = clipped_set();
  const Night& n = night();
  MultiframeOptions options = few_iterations(20);
  const Multiframe of_clipped = deconvolve_frames(with_true_psfs(clipped), options);
  for (const auto& [image, set] :
       {std::pair{&n.result.image, &n.set}, std::pair{&of_clipped.image, &clipped}}) {
    const float sky = measure_sky(image->view())[0].sky;
    const auto frames = static_cast<float>(set->frames.size());
    for (const TrueStar& star : set->stars) {
      if (star.flux < 3000) continue;  // sky noise is deeper than the rings of faint ones
      // the mean all round, where rings are deepest
      double deepest = 0;
      for (int radius = 3; radius <= 8; ++radius) {
        std::vector<float> ring;
        for (int y = -9; y <= 9; ++y) {
          for (int x = -9; x <= 9; ++x) {
            const int u = static_cast<int>(std::lround(star.x)) + x;
            const int v = static_cast<int>(std::lround(star.y)) + y;
            const float away =
                std::hypot(static_cast<float>(u) - star.x, static_cast<float>(v) - star.y);
            if (std::abs(away - static_cast<float>(radius)) < 0.5F)
              ring.push_back(image->view()(0, v, u));
          }
        }
        deepest = std::max<double>(deepest, sky - median(ring));
      }
      // half a sigma of the stack is the bound, and the sky is known to 0.1; 2.5 sigmas without it
      EXPECT_LT(deepest, 0.5F * set->settings.sigma / std::sqrt(frames) + 0.15F)
          << star.x << ' ' << star.y;
    }
  }
}

TEST(MultiFrame, SaysWhatOptionsMakeNoSense) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  const auto inputs = set.inputs();
  for (const auto& spoil : {+[](MultiframeOptions& o) { o.kappa = 1; },
                            +[](MultiframeOptions& o) { o.super_resolution = 5; },
                            +[](MultiframeOptions& o) { o.huber_delta = 0; },
                            +[](MultiframeOptions& o) { o.huber_delta = std::nanf(""); },
                            +[](MultiframeOptions& o) { o.reject_sigma = std::nanf(""); }}) {
    MultiframeOptions options;
    spoil(options);
    try {
      deconvolve_frames(inputs, options);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
    }
  }
}

TEST(MultiFrame, CanBeStopped) {
  const FrameSet set = synthetic::make_frame_set(small_settings());
  std::stop_source source;
  Progress progress;
  progress.stop = source.get_token();
  progress.report = [&](double, std::string_view stage) {
    if (stage.starts_with("iteration 2")) source.request_stop();
  };
  try {
    deconvolve_frames(with_true_psfs(set), few_iterations(50), progress);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::interrupted);
  }
}

TEST(MultiFrameSeed, IsNotPoisonedByASatelliteInAnEarlyFrame) {
  const Night& n = night();
  const auto inputs = n.set.inputs();
  const MultiframeOptions options;
  const multiframe::Survey survey = multiframe::survey(inputs, options, true, {});
  const multiframe::FrameStream stream(inputs, survey, options);
  const Image seed = multiframe::stack(stream, multiframe::Stack::robust, 1 << 20, {}, 0, {});
  const Image ideal = n.set.ideal(4);
  double trail = 0, light = 0, truth = 0;
  int count = 0;
  for (int y = 12; y < 308; ++y) {
    for (int x = 12; x < 308; ++x) {
      if (n.set.outliers.view()(0, y, x) == 0 || ideal.view()(0, y, x) > 1) continue;
      trail += seed.view()(0, y, x);
      ++count;
    }
  }
  for (const TrueStar& star : n.set.stars) {
    light += aperture(seed.view(), star.x, star.y, 12) * survey.sigma[0];
    truth += star.flux;
  }
  EXPECT_LT(trail / count, 0.35) << "in units of one frame's noise";
  // differing seeing is no reason to clip: the cores are there. Four per cent lie outside 12 px.
  EXPECT_NEAR(light / truth, 0.97, 0.025);
}

}  // namespace
}  // namespace limpid
