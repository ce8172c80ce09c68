#include "background/scene.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <limpid/error.h>
#include <limpid/stars.h>

#include "background/downscale.h"
#include "background/objects.h"
#include "background/sky_start.h"

namespace limpid::background {
namespace {

constexpr int smallest_small_px = 24;

std::size_t count_above_zero(const Image& mask) {
  return static_cast<std::size_t>(
      std::ranges::count_if(mask.pixels(), [](float v) { return v > 0; }));
}

/// Means of the blocks of the user's mask, and 0 where a channel has no data.
Image small_mask(ConstView mask, const Image& small, int factor) {
  Image result(1, small.size(), 1);
  for (int v = 0; v < small.height(); ++v) {
    for (int u = 0; u < small.width(); ++u) {
      float& value = result.view()(0, v, u);
      if (!mask.empty()) {
        double sum = 0;
        for (int y = v * factor; y < (v + 1) * factor; ++y) {
          for (int x = u * factor; x < (u + 1) * factor; ++x) {
            const float pixel = mask(0, y, x);
            if (pixel > 0) sum += static_cast<double>(std::min(pixel, 1.0F));
          }
        }
        value = static_cast<float>(sum / (static_cast<double>(factor) * factor));
      }
      for (int c = 0; c < small.channels(); ++c) {
        if (std::isnan(small.view()(c, v, u))) value = 0;
      }
    }
  }
  return result;
}

/// White is the asked quantile, but never so low, nor the pedestal so high, that the sky itself is
/// clipped: what is clipped cannot be fitted.
std::vector<SkyStretch> choose_stretch(const std::vector<ChannelStatistics>& statistics,
                                       const Image& start) {
  std::vector<SkyStretch> stretch;
  for (std::size_t c = 0; c < statistics.size(); ++c) {
    const auto sky = start.view().channel(static_cast<int>(c));
    float lowest = std::numeric_limits<float>::infinity(), highest = -lowest;
    for (int y = 0; y < sky.height(); ++y) {
      const auto [low, high] = std::ranges::minmax(sky.row(0, y));
      lowest = std::min(lowest, low);
      highest = std::max(highest, high);
    }
    const float margin = 0.1F * (highest - lowest);
    SkyStretch channel;
    channel.pedestal = std::min(statistics[c].lowest, lowest - margin);
    channel.white = std::max(statistics[c].white, highest + margin) - channel.pedestal;
    if (!(channel.white > 0)) channel.white = 1;
    channel.median = std::clamp((statistics[c].median - channel.pedestal) / channel.white,
                                smallest_median, largest_median);
    stretch.push_back(channel);
  }
  return stretch;
}

/// Whether a sky is brightest inside the frame, clearly above its edges: light of the sky comes
/// from outside, so that a soft spline has taken in an object.
bool has_hump(const Image& sky, const std::vector<float>& noise) {
  constexpr float clear_sigma = 0.5F;
  for (int c = 0; c < sky.channels(); ++c) {
    const ConstView view = sky.view().channel(c);
    float edge = -std::numeric_limits<float>::infinity(), inside = edge;
    for (int y = 0; y < view.height(); ++y) {
      const auto row = view.row(0, y);
      inside = std::max(inside, *std::ranges::max_element(row));
      const bool outer = y == 0 || y == view.height() - 1;
      edge = std::max({edge, row.front(), row.back()});
      if (outer) edge = std::max(edge, *std::ranges::max_element(row));
    }
    if (inside > edge + clear_sigma * noise[static_cast<std::size_t>(c)]) return true;
  }
  return false;
}

/// Share of the unmasked pixels that the sky misses by more than a sigma (in blocks of few pixels,
/// by more than their noise, too).
double missed_share(const Scene& scene) {
  const float tolerance = 1 + 3 / static_cast<float>(scene.factor);
  std::size_t missed = 0, all = 0;
  for (int c = 0; c < scene.linear.channels(); ++c) {
    const float limit = tolerance * scene.noise[static_cast<std::size_t>(c)];
    for (int y = 0; y < scene.linear.height(); ++y) {
      for (int x = 0; x < scene.linear.width(); ++x) {
        if (!(scene.mask.view()(0, y, x) > 0)) continue;
        ++all;
        missed += std::abs(scene.linear.view()(c, y, x) - scene.start.view()(c, y, x)) > limit;
      }
    }
  }
  return static_cast<double>(missed) / static_cast<double>(std::max<std::size_t>(1, all));
}

/// Whether the sky hardly differs from `before`, in units of the noise.
bool is_same(const Image& before, const Scene& scene) {
  constexpr double little = 0.01;
  const std::size_t plane = before.size().pixels();
  for (std::size_t c = 0; c < scene.noise.size(); ++c) {
    double squares = 0;
    for (std::size_t i = c * plane; i < (c + 1) * plane; ++i) {
      squares += std::pow(static_cast<double>(before.pixels()[i] - scene.start.pixels()[i]), 2);
    }
    const double change = std::sqrt(squares / static_cast<double>(plane));
    if (change > little * static_cast<double>(scene.noise[c])) return false;
  }
  return true;
}

/// Start and mask: the sky is found without the objects and the objects by the sky; a few
/// rounds settle both. What the first soft spline leaves tells bare skies (measured on simulated
/// frames: 0.02 to 0.04 of the noise) from those with nebulae or cirrus (0.06 and more). In the end
/// a found sky misses less than 1 % of the unmasked pixels of simulated frames and of the real ones
/// that show sky, but 6 to 66 % where M 51, IC 434 or the Carina nebula fill the frame.
void find_sky(Scene& scene, const BackgroundOptions& options) {
  constexpr double rough = 0.05, most_missed = 0.05;
  constexpr int rounds = 6, fewest_rounds = 3;
  const Image given = scene.mask.clone();
  Shape known;
  for (int round = 0; round < rounds; ++round) {
    const bool soft = options.auto_mask && (round == 0 || scene.bare);
    const SkyKind kind = soft ? SkyKind::bare : SkyKind::veiled;
    scene.sky = fit_sky_start(scene.linear.view(), scene.mask.view(),
                              scene.start.view().empty() ? ConstView{} : scene.start.view(),
                              scene.noise, kind, known, options.threads);
    known = scene.sky.shape();
    const Image before =
        std::exchange(scene.start, scene.sky.render(scene.linear.size(), options.threads));
    if (!options.auto_mask) return;
    Objects objects =
        find_objects(scene.linear.view(), given.view(), scene.start.view(), scene.noise);
    scene.mask = std::move(objects.mask);
    if (round == 0) scene.bare = objects.roughness < rough && !has_hump(scene.start, scene.noise);
    if (round == 0 && !scene.bare) {
      // the soft sky has taken in part of what it should show: begin again without it
      scene.mask = given.clone();
      scene.start = Image();
    }
    if (round + 1 >= fewest_rounds && is_same(before, scene)) break;
  }
  // a user who leaves out most of the frame has said where the sky is
  const double marked = static_cast<double>(count_above_zero(given)) /
                        (static_cast<double>(given.size().pixels()) * (1 - scene.missing_share));
  if (!options.mask.empty() && marked < 0.5) return;
  scene.hidden = missed_share(scene) > most_missed || has_hump(scene.start, scene.noise);
  if (!scene.hidden) return;
  scene.bare = false;
  scene.sky = fit_sky_start(scene.linear.view(), given.view(), {}, scene.noise, SkyKind::hidden, {},
                            options.threads);
  scene.start = scene.sky.render(scene.linear.size(), options.threads);
  scene.mask =
      find_objects(scene.linear.view(), given.view(), scene.start.view(), scene.noise).mask;
}

}  // namespace

Scene Scene::clone() const {
  Scene other;
  other.factor = factor;
  other.linear = linear.clone();
  other.stretched = stretched.clone();
  other.mask = mask.clone();
  other.start = start.clone();
  other.sky = sky;
  other.stretch = stretch;
  other.noise = noise;
  other.missing_share = missing_share;
  other.masked_share = masked_share;
  other.bare = bare;
  other.hidden = hidden;
  return other;
}

void SceneMaker::look_at_channels(double quantile, int threads) {
  if (statistics_.empty() || quantile != quantile_)
    statistics_ = measure_channels(frame_, quantile, threads);
  quantile_ = quantile;
  if (!noise_.empty()) return;
  for (const SkyLevel& level : measure_sky(frame_)) noise_.push_back(level.sigma);
}

void SceneMaker::scale_down(int factor, int threads) {
  if (factor == factor_) return;
  found_.reset();
  linear_ = downscale(frame_, factor, Downscaling::median, {}, threads);
  factor_ = factor;
}

/// Without stretch.
Scene SceneMaker::with_sky(const BackgroundOptions& options) {
  Scene scene;
  scene.factor = factor_;
  scene.mask = small_mask({}, linear_, factor_);
  scene.missing_share = 1 - static_cast<double>(count_above_zero(scene.mask)) /
                                static_cast<double>(linear_.size().pixels());
  if (!options.mask.empty()) scene.mask = small_mask(options.mask, linear_, factor_);
  for (std::size_t c = 0; c < statistics_.size(); ++c) {
    const float spread = statistics_[c].white - statistics_[c].lowest;
    if (!(spread > 0)) {
      throw Error(ErrorKind::bad_input, "channel " + std::to_string(c + 1) + " of " +
                                            std::to_string(statistics_.size()) +
                                            " is constant: no sky to model");
    }
    // noiseless frames are judged by what rounding leaves
    scene.noise.push_back(std::max(noise_[c], 1e-6F * spread));
  }
  if (count_above_zero(scene.mask) == 0)
    throw Error(ErrorKind::failed, "the mask leaves no pixel with data");
  const bool masked_by_user = !options.mask.empty();
  if (!found_ || found_->auto_mask != options.auto_mask ||
      found_->masked_by_user != masked_by_user || found_->noise != scene.noise ||
      !std::ranges::equal(found_->mask.pixels(), scene.mask.pixels())) {
    found_.reset();
    Image mask = scene.mask.clone();
    const std::vector<float> noise = scene.noise;
    scene.linear = linear_.clone();
    find_sky(scene, options);
    found_.emplace(std::move(mask), options.auto_mask, masked_by_user, noise, std::move(scene));
  }
  return found_->scene.clone();
}

Scene SceneMaker::prepare(const BackgroundOptions& options, std::vector<std::string>& notes) {
  look_at_channels(options.stretch_quantile, options.threads);
  const int most = std::max(1, std::min(frame_.width(), frame_.height()) / smallest_small_px);
  scale_down(std::min(options.downscale, most), options.threads);
  if (factor_ != options.downscale) {
    notes.push_back("a small frame: downscaled by " + std::to_string(factor_) + ", not " +
                    std::to_string(options.downscale));
  }
  Scene scene = with_sky(options);
  scene.stretch = choose_stretch(statistics_, scene.start);
  if (options.downscale_with == Downscaling::median) {
    // the stretch rises everywhere, so the median of stretched pixels is the stretched median
    scene.stretched = scene.linear.clone();
    for (int c = 0; c < frame_.channels(); ++c) {
      for (int y = 0; y < scene.stretched.height(); ++y) {
        for (float& pixel : scene.stretched.view().row(c, y)) {
          pixel = stretched(scene.stretch[static_cast<std::size_t>(c)], pixel);
        }
      }
    }
  } else {
    scene.stretched =
        downscale(frame_, scene.factor, options.downscale_with, scene.stretch, options.threads);
  }
  for (int y = 0; y < scene.mask.height(); ++y) {
    for (int x = 0; x < scene.mask.width(); ++x) {
      for (int c = 0; c < frame_.channels(); ++c) {
        const float value = scene.stretched.view()(c, y, x);
        if (value < options.mask_below || value > options.mask_above)
          scene.mask.view()(0, y, x) = 0;
      }
    }
  }
  const std::size_t left = count_above_zero(scene.mask);
  const double with_data =
      static_cast<double>(scene.linear.size().pixels()) * (1 - scene.missing_share);
  scene.masked_share = 1 - static_cast<double>(left) / with_data;
  if (left < 64 || static_cast<double>(left) < 0.01 * with_data) {
    throw Error(ErrorKind::failed, "the masks leave " + std::to_string(left) + " of " +
                                       std::to_string(scene.linear.size().pixels()) +
                                       " downscaled pixels, too few to model a sky; widen --mask, "
                                       "--mask-below or --mask-above");
  }
  return scene;
}

}  // namespace limpid::background
