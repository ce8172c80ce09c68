#include <limpid/background.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include <limpid/stars.h>

#include "background/downscale.h"
#include "background/lattice.h"
#include "background/loss.h"
#include "background/objects.h"
#include "background/optimise.h"
#include "background/sky_start.h"
#include "background/sky_stretch.h"
#include "background/spline.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/statistics.h"

namespace limpid {
namespace {

using namespace background;

constexpr int smallest_side_px = 16;
constexpr int smallest_small_px = 24;

void check(ConstView frame, const BackgroundOptions& options) {
  const auto usage = [](const std::string& text) { return Error(ErrorKind::usage, text); };
  if (frame.channels() != 1 && frame.channels() != 3) {
    throw Error(ErrorKind::bad_input, "a background is modelled for 1 or 3 channels");
  }
  if (std::min(frame.width(), frame.height()) < smallest_side_px) {
    throw Error(ErrorKind::bad_input, "smaller than " + std::to_string(smallest_side_px) +
                                          " pixels: too small to tell sky from objects");
  }
  if (options.control_points < 4 || options.control_points > 400) {
    throw usage("control points: 4 to 400");
  }
  if (options.order != 2 && options.order != 3) throw usage("order of the spline: 2 or 3");
  if (options.downscale < 1 || options.downscale > 64) throw usage("downscale: 1 to 64");
  if (!(options.stretch_quantile > 0 && options.stretch_quantile <= 1)) {
    throw usage("stretch quantile: above 0, at most 1");
  }
  if (!options.mask.empty() && options.mask.size() != frame.size()) {
    throw usage("the mask has " + std::to_string(options.mask.width()) + " x " +
                std::to_string(options.mask.height()) + " pixels, the frame " +
                std::to_string(frame.width()) + " x " + std::to_string(frame.height()));
  }
  for (const ControlPoint& point : options.points) {
    if (point.values.size() != 1 && static_cast<int>(point.values.size()) != frame.channels()) {
      throw usage("control points have " + std::to_string(point.values.size()) +
                  " values, the frame " + std::to_string(frame.channels()) + " channels");
    }
  }
  if (!options.points.empty() && options.points.size() < 4) {
    throw usage("a spline needs at least four control points");
  }
}

/// Place in the small frame's shares of width and height, and back. Blocks have their centre
/// (factor - 1) / 2 pixels into them.
struct Places {
  double offset, width, height;
  Places(int factor, Size small)
      : offset(0.5 * (factor - 1)),
        width(static_cast<double>(factor) * small.width),
        height(static_cast<double>(factor) * small.height) {}
  [[nodiscard]] double u(double x) const { return (x - offset) / width; }
  [[nodiscard]] double v(double y) const { return (y - offset) / height; }
  [[nodiscard]] float x(double u) const { return static_cast<float>(u * width + offset); }
  [[nodiscard]] float y(double v) const { return static_cast<float>(v * height + offset); }
};

/// What the fit works on.
struct Scene {
  int factor = 0;
  Image linear;     ///< downscaled
  Image stretched;  ///< downscaled, what the loss sees
  Image mask;       ///< (1, height, width)
  Image start;      ///< the sky by its robust low-order fit, linear
  std::vector<SkyStretch> stretch;
  std::vector<float> noise;  ///< of one pixel of the frame
  double missing_share = 0, masked_share = 0;
  bool bare = false;    ///< nothing but sky and small objects
  bool hidden = false;  ///< nebulae, or a galaxy, nearly everywhere
};

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

/// Start and mask: the sky is found without the objects and the objects by the sky; a few
/// rounds settle both. What the first soft spline leaves tells bare skies (measured on simulated
/// frames: 0.02 to 0.04 of the noise) from those with nebulae or cirrus (0.06 and more). In the end
/// a found sky misses less than 1 % of the unmasked pixels of simulated frames and of the real ones
/// that show sky, but 6 to 66 % where M 51, IC 434 or the Carina nebula fill the frame.
void find_sky(Scene& scene, const BackgroundOptions& options) {
  constexpr double rough = 0.05, most_missed = 0.05;
  constexpr int rounds = 4;
  const Image given = scene.mask.clone();
  for (int round = 0; round < rounds; ++round) {
    const bool soft = options.auto_mask && (round == 0 || scene.bare);
    const SkyKind kind = soft ? SkyKind::bare : SkyKind::veiled;
    scene.start = fit_sky_start(scene.linear.view(), scene.mask.view(),
                                scene.start.view().empty() ? ConstView{} : scene.start.view(),
                                scene.noise, kind, options.threads)
                      .render(scene.linear.size(), options.threads);
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
  }
  // a user who leaves out most of the frame has said where the sky is
  const double marked = static_cast<double>(count_above_zero(given)) /
                        (static_cast<double>(given.size().pixels()) * (1 - scene.missing_share));
  if (!options.mask.empty() && marked < 0.5) return;
  scene.hidden = missed_share(scene) > most_missed || has_hump(scene.start, scene.noise);
  if (!scene.hidden) return;
  scene.bare = false;
  scene.start = fit_sky_start(scene.linear.view(), given.view(), {}, scene.noise, SkyKind::hidden,
                              options.threads)
                    .render(scene.linear.size(), options.threads);
  scene.mask =
      find_objects(scene.linear.view(), given.view(), scene.start.view(), scene.noise).mask;
}

Scene prepare(ConstView frame, const BackgroundOptions& options, std::vector<std::string>& notes) {
  Scene scene;
  const auto statistics = measure_channels(frame, options.stretch_quantile, options.threads);
  for (const SkyLevel& level : measure_sky(frame)) scene.noise.push_back(level.sigma);
  scene.factor = std::min(options.downscale,
                          std::max(1, std::min(frame.width(), frame.height()) / smallest_small_px));
  if (scene.factor != options.downscale) {
    notes.push_back("a small frame: downscaled by " + std::to_string(scene.factor) + ", not " +
                    std::to_string(options.downscale));
  }
  scene.linear = downscale(frame, scene.factor, Downscaling::median, {}, options.threads);
  const auto total = static_cast<double>(scene.linear.size().pixels());
  scene.mask = small_mask({}, scene.linear, scene.factor);
  scene.missing_share = 1 - static_cast<double>(count_above_zero(scene.mask)) / total;
  if (!options.mask.empty()) scene.mask = small_mask(options.mask, scene.linear, scene.factor);

  for (std::size_t c = 0; c < statistics.size(); ++c) {
    const float spread = statistics[c].white - statistics[c].lowest;
    if (!(spread > 0)) {
      throw Error(ErrorKind::bad_input, "channel " + std::to_string(c + 1) + " of " +
                                            std::to_string(statistics.size()) +
                                            " is constant: no sky to model");
    }
    // noiseless frames are judged by what rounding leaves
    scene.noise[c] = std::max(scene.noise[c], 1e-6F * spread);
  }
  if (count_above_zero(scene.mask) == 0) {
    throw Error(ErrorKind::failed, "the mask leaves no pixel with data");
  }
  find_sky(scene, options);
  scene.stretch = choose_stretch(statistics, scene.start);
  if (options.downscale_with == Downscaling::median) {
    // the stretch rises everywhere, so the median of stretched pixels is the stretched median
    scene.stretched = scene.linear.clone();
    for (int c = 0; c < frame.channels(); ++c) {
      for (int y = 0; y < scene.stretched.height(); ++y) {
        for (float& pixel : scene.stretched.view().row(c, y)) {
          pixel = stretched(scene.stretch[static_cast<std::size_t>(c)], pixel);
        }
      }
    }
  } else {
    scene.stretched =
        downscale(frame, scene.factor, options.downscale_with, scene.stretch, options.threads);
  }
  for (int y = 0; y < scene.mask.height(); ++y) {
    for (int x = 0; x < scene.mask.width(); ++x) {
      for (int c = 0; c < frame.channels(); ++c) {
        const float value = scene.stretched.view()(c, y, x);
        if (value < options.mask_below || value > options.mask_above)
          scene.mask.view()(0, y, x) = 0;
      }
    }
  }
  const std::size_t left = count_above_zero(scene.mask);
  const double with_data = total * (1 - scene.missing_share);
  scene.masked_share = 1 - static_cast<double>(left) / with_data;
  if (left < 64 || static_cast<double>(left) < 0.01 * with_data) {
    throw Error(ErrorKind::failed, "the masks leave " + std::to_string(left) + " of " +
                                       std::to_string(scene.linear.size().pixels()) +
                                       " downscaled pixels, too few to model a sky; widen --mask, "
                                       "--mask-below or --mask-above");
  }
  return scene;
}

/// Values of control points from the frame itself, as the source does: under a mask the median.
double pixel_start(const Scene& scene, int channel, double u, double v) {
  const ConstView frame = scene.stretched.view().channel(channel);
  const int x = std::clamp(static_cast<int>(u * frame.width()), 0, frame.width() - 1);
  const int y = std::clamp(static_cast<int>(v * frame.height()), 0, frame.height() - 1);
  const double median = 1.0 / static_cast<double>(stretch_ratio);
  const double part = static_cast<double>(scene.mask.view()(0, y, x)),
               pixel = static_cast<double>(frame(0, y, x));
  return std::isnan(pixel) ? median : part * pixel + (1 - part) * median;
}

double start_value(const Scene& scene, bool robust, int channel, double u, double v) {
  if (!robust) return pixel_start(scene, channel, u, v);
  const ConstView sky = scene.start.view().channel(channel);
  const int x = std::clamp(static_cast<int>(u * sky.width()), 0, sky.width() - 1);
  const int y = std::clamp(static_cast<int>(v * sky.height()), 0, sky.height() - 1);
  return static_cast<double>(
      stretched(scene.stretch[static_cast<std::size_t>(channel)], sky(0, y, x)));
}

/// Values for which the spline is nearest, in units of the noise of the frame itself, to the
/// starting sky all over the frame.
void project(const Scene& scene, SplinePoints& points) {
  constexpr int across = 48;
  const Size size = scene.start.size();
  const int step = std::max(1, std::max(size.width, size.height) / across);
  const int wide = (size.width - 1) / step + 1, high = (size.height - 1) / step + 1;
  const SplineBasis spline(points);
  Eigen::MatrixXd design(static_cast<Eigen::Index>(wide) * high, points.count());
  Eigen::MatrixXd sky(design.rows(), points.channels());
  // how many sigma a change of the stretched sky is
  Eigen::MatrixXd sigmas = Eigen::MatrixXd::Zero(design.rows(), points.channels());
  Eigen::Index row = 0;
  for (int y = 0; y < size.height; y += step) {
    for (int x = 0; x < size.width; x += step, ++row) {
      design.row(row) =
          spline.at(static_cast<double>(x) / size.width, static_cast<double>(y) / size.height);
      for (int c = 0; c < scene.start.channels(); ++c) {
        const SkyStretch& stretch = scene.stretch[static_cast<std::size_t>(c)];
        const float level = scene.start.view()(c, y, x);
        const float noise = scene.noise[static_cast<std::size_t>(c)];
        const double value = static_cast<double>(stretched(stretch, level));
        const double change = static_cast<double>(stretched(stretch, level + 0.5F * noise)) -
                              static_cast<double>(stretched(stretch, level - 0.5F * noise));
        sigmas(row, points.channels() == 1 ? 0 : c) += 1 / std::max(1e-9, change);
        // linked channels share the mean of their stretched skies
        if (points.channels() == 1) {
          sky(row, 0) = (c == 0 ? 0 : sky(row, 0)) + value / scene.start.channels();
        } else {
          sky(row, c) = value;
        }
      }
    }
  }
  for (int c = 0; c < points.channels(); ++c) {
    const Eigen::VectorXd weight = (sigmas.col(c) / sigmas.col(c).mean()).array().square();
    const Eigen::MatrixXd weighted = weight.asDiagonal() * design;
    Eigen::MatrixXd normal = design.transpose() * weighted;
    normal.diagonal().array() += 1e-9 * normal.trace();
    points.values.col(c) = normal.ldlt().solve(weighted.transpose() * sky.col(c));
  }
}

/// The places of start number `index`: the asked layout, the grid shaken, then random.
SplinePoints lay_out(const Scene& scene, const BackgroundOptions& options, int index) {
  Random random(options.seed, static_cast<std::uint64_t>(index));
  const bool grid = options.layout == PointLayout::grid && index < 2;
  const int side = std::max(2, static_cast<int>(std::lround(std::sqrt(options.control_points))));
  const int count = grid ? side * side : options.control_points;
  const int channels = options.link_channels ? 1 : scene.linear.channels();
  SplinePoints points{Eigen::VectorXd(count), Eigen::VectorXd(count),
                      Eigen::MatrixXd(count, channels), options.order};
  const double shake = index == 0 ? 0 : 0.3 / (side - 1);
  // A thin plate is flat at its outermost points, which a sky is not at the frame's edge: of 0 to
  // 0.2 of the frame, 0.2 had the least errors on all simulated skies.
  const double beyond = options.robust_start ? 0.2 : 0;
  for (int k = 0; k < count; ++k) {
    if (grid) {
      const auto place = [&](int i) { return (1 + 2 * beyond) * i / (side - 1) - beyond; };
      points.x[k] = place(k % side) + shake * random.uniform(-1, 1);
      points.y[k] = place(k / side) + shake * random.uniform(-1, 1);
    } else {
      points.x[k] = random.uniform();
      points.y[k] = random.uniform();
    }
    for (int c = 0; c < channels; ++c) {
      double value = 0;
      // linked channels share the mean of their stretched skies
      const int first = options.link_channels ? 0 : c;
      const int last = options.link_channels ? scene.linear.channels() - 1 : c;
      for (int from = first; from <= last; ++from) {
        value += start_value(scene, options.robust_start, from, points.x[k], points.y[k]);
      }
      points.values(k, c) = value / (last - first + 1);
    }
  }
  if (options.robust_start) project(scene, points);
  return points;
}

SplinePoints from_user(const Scene& scene, const BackgroundOptions& options) {
  const Places places(scene.factor, scene.linear.size());
  const auto count = static_cast<Eigen::Index>(options.points.size());
  const int channels = options.link_channels ? 1 : scene.linear.channels();
  SplinePoints points{Eigen::VectorXd(count), Eigen::VectorXd(count),
                      Eigen::MatrixXd(count, channels), options.order};
  for (Eigen::Index k = 0; k < count; ++k) {
    const ControlPoint& point = options.points[static_cast<std::size_t>(k)];
    points.x[k] = places.u(static_cast<double>(point.x));
    points.y[k] = places.v(static_cast<double>(point.y));
    for (int c = 0; c < channels; ++c) {
      const auto at = static_cast<std::size_t>(c);
      points.values(k, c) = static_cast<double>(
          stretched_open(scene.stretch[at], point.values[std::min(at, point.values.size() - 1)]));
    }
  }
  return points;
}

/// Sets of pixels from coarse to all: the first thousands tell nearly everything about a smooth
/// surface, at a sixteenth of the cost; the last say that it is right. All but the last leave out
/// the pixels with odd x + y, which then judge what was found.
std::vector<Pixels> make_stages(const Scene& scene) {
  constexpr std::size_t enough = 10000;
  std::vector<Pixels> stages;
  for (const int step : {4, 2}) {
    Pixels pixels(scene.stretched.view(), scene.mask.view(), step);
    if (pixels.count() >= enough) stages.push_back(std::move(pixels));
  }
  if (stages.empty()) {
    Image half = scene.mask.clone();
    for (int y = 0; y < half.height(); ++y) {
      for (int x = 1 - y % 2; x < half.width(); x += 2) half.view()(0, y, x) = 0;
    }
    stages.emplace_back(scene.stretched.view(), half.view(), 1);
  }
  stages.emplace_back(scene.stretched.view(), scene.mask.view(), 1);
  return stages;
}

/// What two surfaces leave of the pixels with odd x + y, which the descent has not seen, judged by
/// Geman and McClure's cost; a constant is of no account, for the frame keeps its level. Whether
/// `fitted` costs less by `clear` standard errors, from the scatter of the sums over a grid of
/// fields: neighbouring pixels err alike.
bool explains_more(const Scene& scene, const SplinePoints& start, const SplinePoints& fitted,
                   double clear) {
  constexpr int fields = 8;
  constexpr double wide = 3;
  const Size size = scene.linear.size();
  const Spline before(start), after(fitted);
  const int surfaces = start.channels();
  std::vector<double> gain(fields * fields, 0), weight(gain.size(), 0);
  const int step =
      std::max(1, static_cast<int>(std::sqrt(static_cast<double>(size.pixels()) / 40000)));
  for (int c = 0; c < scene.linear.channels(); ++c) {
    const auto at = static_cast<std::size_t>(c);
    std::array<std::vector<float>, 2> left;
    std::vector<std::size_t> field;
    for (int row = 0; row < size.height; row += step) {
      for (int column = 0; column < size.width; column += step) {
        const int x = column, y = std::min(size.height - 1, row + (row + column + 1) % 2);
        const float pixel = scene.linear.view()(c, y, x);
        if ((x + y) % 2 == 0 || !(scene.mask.view()(0, y, x) > 0)) continue;
        const double u = static_cast<double>(x) / size.width,
                     v = static_cast<double>(y) / size.height;
        const auto misfit = [&](const Spline& spline) {
          const auto value = static_cast<float>(spline.at(surfaces == 1 ? 0 : c, u, v));
          return (pixel - unstretched(scene.stretch[at], value)) / scene.noise[at];
        };
        left[0].push_back(misfit(before));
        left[1].push_back(misfit(after));
        field.push_back(
            static_cast<std::size_t>(y * fields / size.height * fields + x * fields / size.width));
      }
    }
    if (field.empty()) continue;
    const std::array spreads{robust_spread(left[0]), robust_spread(left[1])};
    const float scale = static_cast<float>(wide) * std::min(spreads[0].sigma, spreads[1].sigma);
    if (!(scale > 0)) continue;
    const auto cost = [&](std::size_t which, std::size_t i) {
      const double u = static_cast<double>((left[which][i] - spreads[which].median) / scale);
      return u * u / (1 + u * u);
    };
    for (std::size_t i = 0; i < field.size(); ++i) {
      gain[field[i]] += cost(0, i) - cost(1, i);
      weight[field[i]] += 1;
    }
  }
  double sum = 0, squares = 0, count = 0;
  for (std::size_t i = 0; i < gain.size(); ++i) {
    sum += gain[i];
    squares += gain[i] * gain[i];
    count += weight[i] > 0 ? 1 : 0;
  }
  if (count < 2) return false;
  const double variance = (squares - sum * sum / count) * count / (count - 1);
  return sum > clear * std::sqrt(std::max(0.0, variance));
}

struct Fitted {
  SplinePoints points;
  std::optional<Spline> reference;  ///< what bending is measured from; none: from a plane
  std::vector<float> curve;
  int start = 0;
  bool start_kept = false;  ///< for the descent explains no more of what it has not seen
  bool flat = false;        ///< for nothing else is sure
};

Fitted optimise(const Scene& scene, const BackgroundOptions& options, const Progress& progress) {
  const std::vector<Pixels> stages = make_stages(scene);
  const auto loss_of = [&](const Pixels& pixels) {
    return Loss(pixels, options.alpha, options.threads);
  };
  const bool given = !options.points.empty();
  // a sky that is not seen must not be bent towards what is
  const int most_iterations =
      scene.hidden && options.robust_start && !given ? 0 : options.max_iterations;
  const AdamOptions base{static_cast<double>(options.learning_rate),
                         static_cast<double>(options.complexity), most_iterations};
  const auto told = [&](double from, double to, int iterations) {
    return [&progress, from, to, iterations](int iteration) {
      progress.throw_if_stopped();
      if (iteration % 10 == 0) {
        progress(from + (to - from) * std::min(1.0, static_cast<double>(iteration) / iterations),
                 "fitting the sky");
      }
    };
  };
  Fitted fitted;
  Descent best;
  std::optional<SplinePoints> first;
  // The start has seen all pixels, so that it must beat a constant by more.
  constexpr double clear = 2, clear_of_flat = 4;
  const int starts = given || most_iterations == 0 ? 1 : std::max(1, options.starts);
  AdamOptions trial = base;
  // with one start there is nothing to choose between
  trial.iterations = starts > 1 ? most_iterations / 10 : 0;
  for (int index = 0; index < starts; ++index) {
    SplinePoints start = given ? from_user(scene, options) : lay_out(scene, options, index);
    // Pixels as starting values are no sky to stay close to.
    std::optional<Spline> reference;
    if (given || options.robust_start) reference.emplace(start);
    if (!given && options.robust_start && index == 0) first = start;
    trial.reference = reference ? &*reference : nullptr;
    Descent descent = descend(
        loss_of(stages.front()), std::move(start), trial,
        told(0.2 * index / starts, 0.2 * (index + 1) / starts, std::max(1, trial.iterations)));
    if (index == 0 || descent.objective < best.objective) {
      best = std::move(descent);
      fitted.reference = std::move(reference);
      fitted.start = index;
    }
  }
  fitted.points = std::move(best.points);
  fitted.curve = std::move(best.curve);
  // Shares of the iterations for two or three stages.
  const std::vector<double> shares =
      stages.size() == 3 ? std::vector{0.5, 0.3, 0.2} : std::vector{0.4, 0.6};
  const double settling = stages.size() == 3 ? 1 : 2;
  const int iterations = most_iterations - trial.iterations;
  double done = 0.2;
  AdamOptions stage = base;
  stage.reference = fitted.reference ? &*fitted.reference : nullptr;
  for (std::size_t i = 0; i < stages.size() && iterations > 0; ++i) {
    const bool judged = first && options.validate && i > 0;
    // before the costly stages only what is clearly worse gives up; before the last one must be
    // clearly better
    if (judged && (i + 1 == stages.size() ? !explains_more(scene, *first, fitted.points, clear)
                                          : explains_more(scene, fitted.points, *first, clear))) {
      fitted.points = *first;
      fitted.reference.emplace(*first);
      fitted.start = 0;
      fitted.start_kept = true;
      break;
    }
    stage.iterations = static_cast<int>(std::lround(shares[i] * iterations));
    const auto tell = told(done, done + 0.8 * shares[i], std::max(1, stage.iterations));
    stage.settle = i + 1 == stages.size();
    // a fresh, higher rate that then falls: the lowest losses of what was tried (0.5, 1, 2)
    if (stage.settle) stage.learning_rate = settling * base.learning_rate;
    Descent descent = descend(loss_of(stages[i]), fitted.points, stage, tell);
    done += 0.8 * shares[i];
    stage.learning_rate = descent.learning_rate;
    fitted.points = std::move(descent.points);
    fitted.curve.insert(fitted.curve.end(), descent.curve.begin(), descent.curve.end());
  }
  if (first && options.validate && !scene.hidden) {
    SplinePoints flat = *first;
    flat.values.rowwise() = first->values.colwise().mean();
    fitted.flat = !explains_more(scene, flat, fitted.points, clear_of_flat);
    if (fitted.flat) fitted.points = std::move(flat);
  }
  return fitted;
}

/// Median of the model's nodes inside the frame.
float model_median(const Image& nodes, int channel) {
  std::vector<float> values;
  for (int v = 1; v < nodes.height() - 2; ++v) {
    for (int u = 1; u < nodes.width() - 2; ++u) values.push_back(nodes.view()(channel, v, u));
  }
  return median_in_place(values);
}

}  // namespace

Background fit_background(ConstView frame, const BackgroundOptions& options,
                          const Progress& progress) {
  const auto begin = std::chrono::steady_clock::now();
  check(frame, options);
  Background result;
  result.size_ = frame.size();
  result.order_ = options.order;
  BackgroundReport& report = result.report_;
  progress(0, "reading the sky");
  Scene scene = prepare(frame, options, report.notes);
  progress.throw_if_stopped();
  report.sky_hidden = scene.hidden;
  if (scene.hidden) {
    report.notes.push_back(
        "sky and nebula cannot be told apart in this frame: at most a plane under its darkest "
        "parts "
        "is taken out; mark the sky with --mask for more");
  }
  Fitted fitted = optimise(scene, options, progress.part(0.3, 0.9));

  const Spline spline(fitted.points);
  const Pixels all(scene.stretched.view(), scene.mask.view(), 1);
  report.loss = Loss(all, options.alpha, options.threads)(fitted.points, spline.weights()).loss;
  report.bending = spline.bending(fitted.reference ? &*fitted.reference : nullptr);
  report.curve = std::move(fitted.curve);
  report.start_loss =
      report.curve.empty() ? report.loss : static_cast<double>(report.curve.front());
  report.iterations = static_cast<int>(report.curve.size());
  report.start = fitted.start;
  report.start_kept = fitted.start_kept;
  if (fitted.flat) report.notes.push_back("no gradient stands out of the noise: none is taken out");
  report.downscale = scene.factor;
  report.masked_share = scene.masked_share;
  report.missing_share = scene.missing_share;
  report.noise = scene.noise;

  const Places places(scene.factor, scene.linear.size());
  const int surfaces = fitted.points.channels();
  const auto surface_of = [surfaces](int channel) { return surfaces == 1 ? 0 : channel; };
  const auto at = [&](double x, double y, std::span<float> values) {
    for (std::size_t c = 0; c < values.size(); ++c) {
      const double value = spline.at(surface_of(static_cast<int>(c)), places.u(x), places.v(y));
      values[c] = unstretched(scene.stretch[c], static_cast<float>(value));
    }
  };
  result.nodes_ = make_nodes(frame.channels(), frame.size(), at, options.threads);
  for (int c = 0; c < frame.channels(); ++c) {
    report.level.push_back(model_median(result.nodes_, c));
    const auto [low, high] = std::ranges::minmax(
        result.nodes_.pixels().subspan(static_cast<std::size_t>(c) * result.nodes_.size().pixels(),
                                       result.nodes_.size().pixels()));
    report.range.push_back(high - low);
  }
  for (int k = 0; k < fitted.points.count(); ++k) {
    ControlPoint point{places.x(fitted.points.x[k]), places.y(fitted.points.y[k]), {}};
    for (int c = 0; c < frame.channels(); ++c) {
      point.values.push_back(
          unstretched(scene.stretch[static_cast<std::size_t>(c)],
                      static_cast<float>(fitted.points.values(k, surface_of(c)))));
    }
    result.points_.push_back(std::move(point));
  }
  result.stretch_ = std::move(scene.stretch);
  result.small_ = std::move(scene.stretched);
  result.small_mask_ = std::move(scene.mask);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  progress(1, "sky fitted");
  return result;
}

}  // namespace limpid
