#include "restore/clipped_fit.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include <Eigen/Dense>

#include "core/statistics.h"
#include "measure/moffat.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

/// From the core's edge, in FWHM: where the star's light is told, and the ring that tells the sky.
constexpr float edge_fwhm = 1, sky_fwhm = 3.5F, sky_width_fwhm = 2;
constexpr float least_sky_width_px = 4;
constexpr double seen_sigma = 3;
/// Pixels near the clipping are not linear any more.
constexpr float linear_share = 0.9F;
constexpr std::size_t fewest_edge_pixels = 8, fewest_sky_pixels = 30;
constexpr double farthest_px = 1;  // from the middle of the core
/// Of a core: bars, and discs with bleeding columns, are no stars.
constexpr float least_round_share = 0.8F;
constexpr double least_residual_share = -0.5, most_residual_share = 1;  // of the Moffat's light

MoffatProfile profile_of(const Psf& psf) {
  return {static_cast<double>(psf.fwhm_px), static_cast<double>(psf.e1),
          static_cast<double>(psf.e2), static_cast<double>(psf.beta)};
}

/// A robust plane through the ring, less the star's own light there (`flux` times `psf`).
std::optional<SkyPlane> sky_under(const RestoredPart& known, const ClippedPlace& place, int channel,
                                  double flux, const Eigen::ArrayXd& psf) {
  const float from = place.core_px + sky_fwhm * known.fwhm_px,
              to = from + std::max(sky_width_fwhm * known.fwhm_px, least_sky_width_px);
  const Star& star = place.star;
  struct Sample {
    Eigen::Vector3d at;
    double value;
  };
  std::vector<Sample> samples;
  for_pixels(place.box, [&](int x, int y) {
    const float away = distance(star, x, y);
    if (away < from || away > to) return;
    samples.push_back({{1, static_cast<double>(static_cast<float>(x) - star.x),
                        static_cast<double>(static_cast<float>(y) - star.y)},
                       static_cast<double>(known.before(channel, y, x)) -
                           flux * psf[static_cast<Eigen::Index>(place.index(x, y))]});
  });
  if (samples.size() < fewest_sky_pixels) return std::nullopt;
  SkyPlane sky;
  std::vector<float> rest(samples.size());
  for (int round = 0; round < 4; ++round) {
    for (std::size_t i = 0; i < samples.size(); ++i)
      rest[i] = static_cast<float>(samples[i].value - sky.plane.dot(samples[i].at));
    const Spread spread = robust_spread(rest);
    sky.scatter = static_cast<double>(spread.sigma);
    if (round == 0) {
      sky.plane[0] = static_cast<double>(spread.median);
      continue;
    }
    Eigen::Matrix3d matrix = Eigen::Matrix3d::Zero();
    Eigen::Vector3d right = Eigen::Vector3d::Zero();
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (std::abs(rest[i] - spread.median) > 2.5F * spread.sigma) continue;
      matrix += samples[i].at * samples[i].at.transpose();
      right += samples[i].value * samples[i].at;
    }
    const Eigen::LDLT<Eigen::Matrix3d> solver(matrix);
    if (solver.info() != Eigen::Success || !solver.isPositive()) return std::nullopt;
    sky.plane = solver.solve(right);
  }
  return sky;
}

/// Light and place from ln(recorded - B) = ln F + ln G - grad ln G . shift, again and again.
class Fit {
 public:
  Fit(const RestoredPart& known, const ClippedPlace& place, const ClippedDrawing& drawing,
      int channel)
      : known_(known),
        star_(place.star),
        place_(place),
        drawing_(drawing),
        channel_(channel) {}

  std::optional<ClippedFit> run() const {
    ClippedFit found;
    found.x = static_cast<double>(star_.x);
    found.y = static_cast<double>(star_.y);
    for (int round = 0;; ++round) {
      found.measured = drawing_.measured(found.x, found.y);
      const auto sky = sky_under(known_, place_, channel_, found.flux, found.measured);
      if (!sky) return std::nullopt;
      found.sky = *sky;
      const std::vector<Pixel> pixels = edge_pixels(found);
      if (pixels.size() < fewest_edge_pixels) return std::nullopt;
      Eigen::Vector3d mean = Eigen::Vector3d::Zero();
      for (const Pixel& p : pixels) mean += p.values() / static_cast<double>(pixels.size());
      Eigen::Matrix2d matrix = Eigen::Matrix2d::Zero();
      Eigen::Vector2d right = Eigen::Vector2d::Zero();
      double squares = 0;
      for (const Pixel& p : pixels) {
        const Eigen::Vector3d rest = p.values() - mean;
        matrix += rest.tail<2>() * rest.tail<2>().transpose();
        right -= rest.tail<2>() * rest[0];
        squares += rest[0] * rest[0];
      }
      found.flux = std::exp(mean[0]);
      found.scatter = std::sqrt(squares / static_cast<double>(pixels.size()));
      if (round == rounds) return found;
      if (round + 1 == rounds && !converged(found)) {
        found.x = static_cast<double>(star_.x);
        found.y = static_cast<double>(star_.y);
        continue;
      }
      const Eigen::Vector2d shift = matrix.ldlt().solve(right);
      if (!shift.allFinite()) return std::nullopt;
      const auto moved = [](double at, double by, float from) {
        return std::clamp(at + by, static_cast<double>(from) - farthest_px,
                          static_cast<double>(from) + farthest_px);
      };
      found.x = moved(found.x, shift[0], star_.x);
      found.y = moved(found.y, shift[1], star_.y);
    }
  }

 private:
  static constexpr int rounds = 4;
  [[nodiscard]] bool converged(const ClippedFit& found) const {
    return std::abs(found.x - static_cast<double>(star_.x)) < farthest_px &&
           std::abs(found.y - static_cast<double>(star_.y)) < farthest_px;
  }
  struct Pixel {
    double log_flux, slope_x, slope_y;
    [[nodiscard]] Eigen::Vector3d values() const { return {log_flux, slope_x, slope_y}; }
  };

  /// Those that are clipped in no channel and stand beside the core, outliers left out.
  [[nodiscard]] std::vector<Pixel> edge_pixels(const ClippedFit& found) const {
    const float level = linear_share * *known_.catalogue.saturation;
    const float reach = place_.core_px + edge_fwhm * known_.fwhm_px;
    const auto log_psf = [&](int x, int y) {
      return std::log(found.measured[static_cast<Eigen::Index>(place_.index(x, y))]);
    };
    const Rect inner{place_.box.x + 1, place_.box.y + 1, place_.box.width - 2,
                     place_.box.height - 2};
    std::vector<Pixel> pixels;
    std::vector<float> logs;
    for_pixels(inner, [&](int x, int y) {
      const float value = known_.before(channel_, y, x);
      if (distance(star_, x, y) > reach || value >= level || place_.core[place_.index(x, y)] != 0)
        return;
      const double light = static_cast<double>(value) - found.sky.at(star_, x, y);
      if (light < seen_sigma * found.sky.scatter) return;
      pixels.push_back({std::log(light) - log_psf(x, y),
                        (log_psf(x + 1, y) - log_psf(x - 1, y)) / 2,
                        (log_psf(x, y + 1) - log_psf(x, y - 1)) / 2});
      logs.push_back(static_cast<float>(pixels.back().log_flux));
    });
    if (pixels.empty()) return pixels;
    const Spread spread = robust_spread(logs);
    std::erase_if(pixels, [&](const Pixel& p) {
      return std::abs(p.log_flux - static_cast<double>(spread.median)) >
             3 * static_cast<double>(spread.sigma) + 0.05;
    });
    return pixels;
  }

  const RestoredPart& known_;
  const Star& star_;
  const ClippedPlace& place_;
  const ClippedDrawing& drawing_;
  int channel_;
};

}  // namespace

std::optional<ClippedPlace> find_clipped_core(const RestoredPart& known, const Star& star) {
  const ConstView before = known.before;
  const float level = clipped_share * *known.catalogue.saturation;
  const Rect frame{0, 0, before.width(), before.height()};
  const auto clipped = [&](int x, int y) { return any_reaches(before, level, x, y); };
  const Rect middle = intersect(square_around(star, 2), frame);
  std::vector<std::pair<int, int>> found;
  for_pixels(middle, [&](int x, int y) {
    if (found.empty() && clipped(x, y)) found.emplace_back(x, y);
  });
  if (found.empty()) return std::nullopt;
  const Rect searched = intersect(square_around(star, largest_clipped_core_px), frame);
  ClippedPlace all{searched, {}, 0, {}};
  all.core.resize(searched.size().pixels());
  all.core[all.index(found[0].first, found[0].second)] = 1;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [x, y] = found[i];
    for (const auto& [u, v] : {std::pair{x - 1, y}, {x + 1, y}, {x, y - 1}, {x, y + 1}}) {
      if (intersect({u, v, 1, 1}, searched).size().pixels() == 0 ||
          all.core[all.index(u, v)] != 0 || !clipped(u, v))
        continue;
      all.core[all.index(u, v)] = 1;
      found.emplace_back(u, v);
    }
  }
  ClippedPlace place;
  place.core_px = std::sqrt(static_cast<float>(found.size()) / std::numbers::pi_v<float>);
  if (place.core_px > static_cast<float>(largest_clipped_core_px) / 2) return std::nullopt;
  double sum_x = 0, sum_y = 0;
  for (const auto& [x, y] : found) sum_x += x, sum_y += y;
  place.star = star;
  place.star.x = static_cast<float>(sum_x / static_cast<double>(found.size()));
  place.star.y = static_cast<float>(sum_y / static_cast<double>(found.size()));
  const auto round = std::ranges::count_if(found, [&](const auto& pixel) {
    return distance(place.star, pixel.first, pixel.second) <= place.core_px + 1;
  });
  if (static_cast<float>(round) < least_round_share * static_cast<float>(found.size()))
    return std::nullopt;
  const float sky_width = std::max(sky_width_fwhm * known.fwhm_px, least_sky_width_px);
  place.box = intersect(
      square_around(place.star, static_cast<int>(std::ceil(place.core_px +
                                                           sky_fwhm * known.fwhm_px + sky_width))),
      frame);
  place.core.resize(place.box.size().pixels());
  for (const auto& [x, y] : found) {
    for_pixels(intersect({x - 1, y - 1, 3, 3}, place.box),
               [&](int u, int v) { place.core[place.index(u, v)] = 1; });
  }
  return place;
}

ClippedDrawing::ClippedDrawing(const ClippedPlace& place, const TileControls& controls)
    : place_(place),
      controls_(controls),
      wanted_(wanted_psfs(controls).stellar) {}

Profile ClippedDrawing::measured(double x, double y) const {
  Profile mean = Profile::Zero(static_cast<Eigen::Index>(place_.core.size()));
  for (std::size_t c = 0; c < 3; ++c) {
    Profile channel = drawn(controls_.measured[c], x, y);
    add_residual(controls_.residual[c], x, y, channel);
    mean += channel / 3;
  }
  return mean;
}

Profile ClippedDrawing::wanted(double x, double y) const { return drawn(wanted_, x, y); }

double ClippedDrawing::gain() const {
  double peak = 0;
  for (const Psf& psf : controls_.measured) peak += profile_of(psf).pixel(0, 0) / 3;
  return profile_of(wanted_).pixel(0, 0) / peak;
}

Profile ClippedDrawing::drawn(const Psf& psf, double x, double y) const {
  const auto count = static_cast<Eigen::Index>(place_.core.size());
  Eigen::ArrayXd dx(count), dy(count);
  Eigen::Index i = 0;
  for_pixels(place_.box, [&](int u, int v) {
    dx[i] = u - x;
    dy[i++] = v - y;
  });
  return profile_of(psf).pixels(dx, dy);
}

void ClippedDrawing::add_residual(const std::vector<float>& rows, double x, double y,
                                  Profile& psf) const {
  if (rows.empty()) return;
  const int left = static_cast<int>(std::lround(x)) - psf_kernel_px / 2,
            top = static_cast<int>(std::lround(y)) - psf_kernel_px / 2;
  for_pixels(intersect(place_.box, {left, top, psf_kernel_px, psf_kernel_px}), [&](int u, int v) {
    double& light = psf[static_cast<Eigen::Index>(place_.index(u, v))];
    const auto more =
        static_cast<double>(rows[static_cast<std::size_t>((v - top) * psf_kernel_px + u - left)]);
    light += std::clamp(more, least_residual_share * light, most_residual_share * light);
  });
}

std::optional<ClippedFit> fit_clipped_star(const RestoredPart& known, const ClippedPlace& place,
                                           const ClippedDrawing& drawing, int channel) {
  return Fit(known, place, drawing, channel).run();
}

std::vector<double> excess_by_radius(const RestoredPart& known, const ClippedPlace& place,
                                     const ClippedFit& found, int channel) {
  const Star& star = place.star;
  const float level = linear_share * *known.catalogue.saturation;
  std::vector<std::vector<float>> rings(static_cast<std::size_t>(place.box.width) + 1),
      expected_rings(rings.size());
  for_pixels(place.box, [&](int x, int y) {
    const float value = known.before(channel, y, x);
    const double expected =
        found.flux * found.measured[static_cast<Eigen::Index>(place.index(x, y))];
    const auto ring = static_cast<std::size_t>(std::lround(distance(star, x, y)));
    if (value >= level || ring >= rings.size()) return;
    const double light = static_cast<double>(value) - found.sky.at(star, x, y);
    rings[ring].push_back(static_cast<float>(light));
    expected_rings[ring].push_back(static_cast<float>(expected));
  });
  std::vector<double> curve;
  for (std::size_t r = 0; r < rings.size(); ++r) {
    double value = 1;
    if (rings[r].size() >= fewest_edge_pixels) {
      const auto light = static_cast<double>(median(rings[r])),
                 expected = static_cast<double>(median(expected_rings[r]));
      if (light > found.sky.scatter && expected > 0) value = light / expected;
    }
    curve.push_back(std::max(value, 0.3));
  }
  return curve;
}

}  // namespace limpid
