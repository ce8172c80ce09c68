// The far wings of the PSF: light that the local sky of a star's fit takes for sky.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>

#include <limpid/stars.h>

#include "core/length.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/moffat.h"
#include "measure/neighbours.h"

namespace limpid {
namespace {

/// Rings in which stars are stacked, px; their widths grow as the light falls. The sky is read in
/// the last one.
constexpr std::array<float, 16> edges{0, 1, 2, 3, 4, 5, 6, 7.5F, 9, 11, 13, 16, 19, 22, 25, 31};
constexpr std::size_t ring_count = edges.size() - 2;  // those that are not the sky's
constexpr int reach_px = 31;
constexpr std::size_t most_stars = 200;
constexpr float least_snr = 60;
constexpr std::size_t fewest_stars = 8;
/// A priori no ring holds more than this share of a star's light, one sigma.
constexpr double prior_share = 0.03;

double ring_middle(std::size_t ring) {
  return (static_cast<double>(edges[ring]) + static_cast<double>(edges[ring + 1])) / 2;
}
double ring_area(std::size_t ring) {
  const double inner = edges[ring], outer = edges[ring + 1];
  return std::numbers::pi * (outer * outer - inner * inner);
}

/// The sky's ring and beyond: ring_count.
std::size_t ring_of(double radius) {
  const auto ring = static_cast<std::size_t>(
      std::ranges::upper_bound(edges, static_cast<float>(radius)) - edges.begin() - 1);
  return std::min(ring, ring_count);
}

/// Linear between the middles of the rings, level inside the first, zero at the sky's.
double light_at(const std::vector<float>& rings, double radius) {
  if (rings.empty() || radius >= ring_middle(ring_count)) return 0;
  const auto value = [&](std::size_t ring) {
    return ring < ring_count ? static_cast<double>(rings[ring]) : 0.0;
  };
  std::size_t ring = 0;
  while (ring + 1 <= ring_count && ring_middle(ring + 1) < radius) ++ring;
  const double from = ring_middle(ring), to = ring_middle(ring + 1);
  const double share = std::clamp((radius - from) / (to - from), 0.0, 1.0);
  return (1 - share) * value(ring) + share * value(ring + 1);
}

/// Of one star: light per pixel beyond the model in each ring over that in the sky's ring, in
/// shares of the flux, and the variance of that. Infinite where nothing is seen.
struct StarRings {
  std::array<double, ring_count> light{}, variance{};
};

struct Neighbour {
  double x, y, flux;
};

/// Stars around `star` as one channel shows them; nothing where one is clipped, since nobody knows
/// how much light it has.
std::optional<std::vector<Neighbour>> neighbours_of(const Star& star,
                                                    const std::vector<const Star*>& others,
                                                    std::size_t channel, double channel_share) {
  std::vector<Neighbour> neighbours;
  for (const Star* other : others) {
    const double x = other->x, y = other->y;
    if (length_of(x - static_cast<double>(star.x), y - static_cast<double>(star.y)) >
        2.0 * reach_px)
      continue;
    if (other->saturated) return std::nullopt;
    const bool fitted = !other->fits.empty() && other->fits[channel].flux > 0;
    const double flux = fitted ? static_cast<double>(other->fits[channel].flux)
                               : static_cast<double>(other->flux) * channel_share;
    neighbours.push_back({x, y, flux});
  }
  return neighbours;
}

/// The pixels around a star that its neighbours' cores leave alone.
struct StarPixels {
  struct Pixel {
    double x, y;
    double beyond;  ///< the model of the star and the neighbours' cores, in shares of the flux
    std::size_t ring;
  };
  std::vector<Pixel> pixels;
  std::vector<Neighbour> neighbours;  ///< with fluxes in shares of the star's
};

/// Middle of a ring's pixels, those beyond 2.5 robust sigmas left out, and its variance.
/// Nebulae have structure as large as rings: neighbours agree, so that twenty pixels count as one.
std::pair<double, double> middle_of(const std::vector<float>& values) {
  if (values.size() < 4) return {0, INFINITY};
  const Spread spread = robust_spread(values);
  const double centre = static_cast<double>(spread.median),
               scatter = static_cast<double>(spread.sigma);
  double sum = 0, squares = 0;
  int count = 0;
  for (const float value : values) {
    const double miss = static_cast<double>(value) - centre;
    if (std::abs(miss) > 2.5 * scatter) continue;
    sum += miss;
    squares += miss * miss;
    ++count;
  }
  if (count < 4) return {centre, INFINITY};
  const double independent = std::max(1.0, count / 20.0);
  return {centre + sum / count, squares / count / independent};
}

std::optional<StarPixels> pixels_of(ConstView frame, int channel, const Star& star,
                                    const EffectivePsf* effective,
                                    const Neighbourhood& neighbourhood, double sigma) {
  const auto c = static_cast<std::size_t>(channel);
  const StarFit& fit = star.fits[c];
  if (fit.psf.fwhm_px <= 0 || fit.flux <= 0) return std::nullopt;
  const int x0 = static_cast<int>(std::lround(fit.x)), y0 = static_cast<int>(std::lround(fit.y));
  if (x0 < reach_px || y0 < reach_px || x0 + reach_px >= frame.width() ||
      y0 + reach_px >= frame.height())
    return std::nullopt;
  const auto flux = static_cast<double>(fit.flux);
  auto neighbours =
      neighbours_of(star, neighbourhood.around(star), c, flux / static_cast<double>(star.flux));
  if (!neighbours) return std::nullopt;
  constexpr int side = 2 * reach_px + 2;
  const std::vector<float> residual =
      effective != nullptr
          ? effective->residual(star.x, star.y, channel, side, fit.x - std::round(fit.x),
                                fit.y - std::round(fit.y))
          : std::vector<float>();
  std::vector<double> xs, ys, values;
  for (int row = y0 - reach_px; row <= y0 + reach_px; ++row) {
    for (int column = x0 - reach_px; column <= x0 + reach_px; ++column) {
      const float value = frame(channel, row, column);
      if (length_of(column - static_cast<double>(fit.x), row - static_cast<double>(fit.y)) >=
              reach_px ||
          !std::isfinite(value) || value == 0)
        continue;
      xs.push_back(column);
      ys.push_back(row);
      values.push_back(value);
    }
  }
  const auto count = static_cast<Eigen::Index>(values.size());
  const Eigen::Map<const Eigen::ArrayXd> x(xs.data(), count), y(ys.data(), count);
  const MoffatProfile profile(fit.psf.fwhm_px, fit.psf.e1, fit.psf.e2, fit.psf.beta);
  const auto light_at_place = [&](double from_x, double from_y) {
    return profile.pixels(x - from_x, y - from_y);
  };
  const Eigen::ArrayXd own = light_at_place(static_cast<double>(fit.x), static_cast<double>(fit.y));
  const Eigen::ArrayXd most = (0.15 * flux * own).max(0.3 * sigma);
  Eigen::ArrayXd cores = Eigen::ArrayXd::Zero(own.size()), brightest = cores;
  for (const Neighbour& n : *neighbours) {
    const Eigen::ArrayXd core = n.flux * light_at_place(n.x, n.y);
    cores += core;
    brightest = brightest.max(core);
  }
  StarPixels result;
  for (Eigen::Index i = 0; i < own.size(); ++i) {
    if (brightest[i] > most[i]) continue;
    const int dx = static_cast<int>(x[i]) - x0, dy = static_cast<int>(y[i]) - y0;
    double known = own[i];
    if (!residual.empty())
      known += static_cast<double>(
          residual[static_cast<std::size_t>(dy + side / 2) * static_cast<std::size_t>(side) +
                   static_cast<std::size_t>(dx + side / 2)]);
    const double radius =
        length_of(x[i] - static_cast<double>(fit.x), y[i] - static_cast<double>(fit.y));
    result.pixels.push_back({x[i], y[i],
                             (values[static_cast<std::size_t>(i)] - cores[i]) / flux - known,
                             ring_of(radius)});
  }
  for (Neighbour& n : *neighbours) n.flux /= flux;
  result.neighbours = std::move(*neighbours);
  return result;
}

std::optional<StarRings> rings_of(const StarPixels& star, const std::vector<float>& wings) {
  std::array<std::vector<float>, ring_count + 1> values;
  for (const StarPixels::Pixel& pixel : star.pixels) {
    double shone = 0;
    if (!wings.empty()) {
      for (const Neighbour& n : star.neighbours)
        shone += n.flux * light_at(wings, length_of(pixel.x - n.x, pixel.y - n.y));
    }
    values[pixel.ring].push_back(static_cast<float>(pixel.beyond - shone));
  }
  if (values[ring_count].size() < 200) return std::nullopt;
  const auto [sky, sky_variance] = middle_of(values[ring_count]);
  StarRings result;
  for (std::size_t ring = 0; ring < ring_count; ++ring) {
    const auto [light, variance] = middle_of(values[ring]);
    result.light[ring] = light - sky;
    // no model of a core is right to better than a per cent of the light in a ring
    result.variance[ring] = variance + sky_variance + std::pow(0.01 / ring_area(ring), 2);
  }
  return result;
}

/// Weighted mean over the stars, those far off counting little (Geman and McClure's weight, bound 3
/// sigma); then drawn to zero as far as it may be chance.
float stacked(const std::vector<StarRings>& stars, std::size_t ring) {
  std::vector<float> lights;
  for (const StarRings& star : stars) {
    if (std::isfinite(star.variance[ring])) lights.push_back(static_cast<float>(star.light[ring]));
  }
  if (lights.size() < fewest_stars) return 0;
  double centre = median(lights), error2 = 0;
  for (int round = 0; round < 3; ++round) {
    double sum = 0, weights = 0, squares = 0;
    for (const StarRings& star : stars) {
      const double variance = star.variance[ring], miss = star.light[ring] - centre;
      if (!std::isfinite(variance)) continue;
      const double weight = std::pow(9 * variance / (9 * variance + miss * miss), 2) / variance;
      sum += weight * miss;
      weights += weight;
      squares += weight * weight * miss * miss;
    }
    centre += sum / weights;
    error2 = std::max(squares / (weights * weights), 1 / weights);
  }
  const double prior2 = std::pow(prior_share / ring_area(ring), 2);
  return static_cast<float>(centre * prior2 / (prior2 + error2));
}

/// Light is never negative: wings take no more away than the others hold in the middle of the
/// frame.
void keep_positive(std::vector<float>& wings, const std::vector<const Star*>& stars,
                   const EffectivePsf* effective, Size frame, int channel) {
  std::vector<float> fwhm, beta;
  for (const Star* star : stars) {
    const Psf& psf = star->fits[static_cast<std::size_t>(channel)].psf;
    if (psf.fwhm_px <= 0) continue;
    fwhm.push_back(psf.fwhm_px);
    beta.push_back(psf.beta);
  }
  if (fwhm.empty()) return;
  constexpr int side = 2 * reach_px + 2;
  const Psf typical{median(fwhm), median(beta), 0, 0, 0, 0};
  std::vector<float> residual;
  if (effective != nullptr) {
    residual = effective->residual(static_cast<float>(frame.width) / 2,
                                   static_cast<float>(frame.height) / 2, channel, side);
  }
  const MoffatProfile profile(typical.fwhm_px, 0, 0, typical.beta);
  std::array<double, ring_count + 1> sums{}, counts{};
  for (int y = -reach_px; y <= reach_px; ++y) {
    for (int x = -reach_px; x <= reach_px; ++x) {
      const double radius = length_of(x, y);
      if (radius >= reach_px) continue;
      const std::size_t ring = ring_of(radius);
      sums[ring] += profile.pixel(x, y);
      if (!residual.empty())
        sums[ring] += static_cast<double>(
            residual[static_cast<std::size_t>(y + side / 2) * static_cast<std::size_t>(side) +
                     static_cast<std::size_t>(x + side / 2)]);
      counts[ring] += 1;
    }
  }
  for (std::size_t ring = 0; ring < ring_count; ++ring)
    wings[ring] = std::max(wings[ring], static_cast<float>(-sums[ring] / counts[ring]));
}

}  // namespace

float PsfWings::at(int channel, float radius_px) const {
  return static_cast<float>(
      light_at(channels_[static_cast<std::size_t>(channel)], static_cast<double>(radius_px)));
}

std::shared_ptr<const PsfWings> measure_psf_wings(ConstView frame, const StarCatalogue& catalogue,
                                                  const EffectivePsf* effective, int threads) {
  const auto chosen = bright_isolated_stars(catalogue, most_stars, least_snr);
  if (chosen.size() < fewest_stars) return nullptr;
  const Neighbourhood neighbourhood(catalogue, 2 * reach_px);
  auto result = std::make_shared<PsfWings>();
  result->channels_.resize(static_cast<std::size_t>(frame.channels()));
  for (int channel = 0; channel < frame.channels(); ++channel) {
    const auto c = static_cast<std::size_t>(channel);
    std::vector<float>& wings = result->channels_[c];
    std::vector<std::optional<StarPixels>> pixels(chosen.size());
    parallel_for(static_cast<int>(chosen.size()), threads, [&](int i) {
      const auto at = static_cast<std::size_t>(i);
      pixels[at] = pixels_of(frame, channel, *chosen[at], effective, neighbourhood,
                             static_cast<double>(catalogue.sky[c].sigma));
    });
    // neighbours shine with the wings of the round before
    for (int round = 0; round < 2; ++round) {
      std::vector<std::optional<StarRings>> rings(chosen.size());
      parallel_for(static_cast<int>(chosen.size()), threads, [&](int i) {
        const auto at = static_cast<std::size_t>(i);
        if (pixels[at]) rings[at] = rings_of(*pixels[at], wings);
      });
      std::vector<StarRings> stars;
      for (const auto& star : rings) {
        if (star) stars.push_back(*star);
      }
      std::vector<float> next(ring_count);
      for (std::size_t ring = 0; ring < ring_count; ++ring) next[ring] = stacked(stars, ring);
      wings = std::move(next);
    }
    keep_positive(wings, chosen, effective, catalogue.frame, channel);
  }
  return result;
}

}  // namespace limpid
