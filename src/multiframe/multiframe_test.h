// The sets that mfdeconv's tests are about, and what is measured in their results.
#pragma once

#include <algorithm>
#include <barrier>
#include <cmath>
#include <limits>
#include <span>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <limpid/multiframe.h>

#include "core/statistics.h"
#include "frame_sets.h"

namespace limpid::multiframe_test {

using synthetic::FrameSet;
using synthetic::FrameSetSettings;
using synthetic::TrueStar;

inline constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

/// Light within `radius` of a place over the median of a ring around.
inline double aperture(ConstView image, float x, float y, float radius, int channel = 0) {
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

inline double light_against_truth(ConstView image, ConstView truth, const TrueStar& star) {
  return synthetic::light_against_truth(image, truth, static_cast<double>(star.x),
                                        static_cast<double>(star.y),
                                        static_cast<double>(star.flux));
}

struct StarFigures {
  int stars = 0;
  double dx = 0, dy = 0, worst_shift = 0, fwhm_px = 0, flux_ratio = 0;
};

/// Medians over the true stars; `worst_shift` against `reference` (another image of the sky) is the
/// 90 % quantile.
inline StarFigures measure_stars(ConstView image, const std::vector<TrueStar>& stars,
                                 int factor = 1, const StarCatalogue* reference = nullptr,
                                 int channel = 0, float least_snr = 100) {
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

inline double rms_difference(ConstView a, ConstView b, float level, int margin) {
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

inline double largest_difference(const Image& a, const Image& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.pixels().size(); ++i)
    most = std::max(most, std::abs(static_cast<double>(a.pixels()[i]) - b.pixels()[i]));
  return most;
}
inline double largest(const Image& a) {
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
inline const Night& night() {
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
inline FrameSetSettings small_settings() {
  FrameSetSettings settings;
  settings.size = {150, 130};
  settings.frames = 5;
  settings.fwhm_high = 4;
  return settings;
}
inline std::vector<InputFrame> with_true_psfs(const FrameSet& set) {
  auto inputs = set.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].psf = set.psfs[i].kernel(41);
  return inputs;
}
inline MultiframeOptions few_iterations(int iterations) {
  MultiframeOptions options;
  options.iterations = iterations;
  options.early_stop = false;
  return options;
}

/// Two hosts as threads, each with the frames as it can read them.
inline std::vector<Multiframe> on_two_hosts(const std::vector<InputFrame>& first,
                                            const std::vector<InputFrame>& second,
                                            const MultiframeOptions& options) {
  std::barrier meet(2);
  std::vector<std::span<float>> parts(2);
  std::vector<Multiframe> results(2);
  std::vector<std::jthread> hosts;
  for (int rank = 0; rank < 2; ++rank) {
    hosts.emplace_back([&, rank] {
      const auto own = static_cast<std::size_t>(rank);
      MultiframeOptions of_host = options;
      of_host.hosts = {rank, 2, [&, own](std::span<float> values) {
                         parts[own] = values;
                         meet.arrive_and_wait();
                         if (own == 0) {
                           ASSERT_EQ(parts[0].size(), parts[1].size());
                           for (std::size_t i = 0; i < values.size(); ++i)
                             parts[0][i] = parts[1][i] = parts[0][i] + parts[1][i];
                         }
                         meet.arrive_and_wait();
                       }};
      results[own] = deconvolve_frames(rank == 0 ? first : second, of_host);
    });
  }
  hosts.clear();
  return results;
}

}  // namespace limpid::multiframe_test
