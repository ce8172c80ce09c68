#include "restore/clipped_stars.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "measure/neighbours.h"
#include "restore/clipped_fit.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

/// From the core's edge, in FWHM: where the result passes over into the network's; further out
/// where a halo stands out, since there it passes over into the record (halos.h).
constexpr float result_fwhm = 1.5F, end_fwhm = 2.5F, halo_result_fwhm = 2, halo_end_fwhm = 3.5F;
/// A star this far over its surroundings counts; less where the network left darkness.
constexpr double seen_sigma = 3, darkened_sigma = 0.7;
/// Of ln(recorded / expected): from here on the star is not understood, up to where it is not at
/// all.
constexpr float doubtful_scatter = 0.28F, wrong_scatter = 0.42F;
constexpr double foreign_share = 0.5;  // of the star's light: more than that is something else's
constexpr double doubtful_excess = 3;  // of light over the PSF's: less may be the PSF's error
constexpr double most_colour = 3;      // by which a channel's wings are mended
constexpr float least_neighbour_snr = 8, counting_share = 0.3F;
/// Of the distance to both: from here on a pixel belongs to the other of two clipped stars.
constexpr float own_distance = 0.5F, foreign_distance = 0.6F;

/// How far a pixel belongs to another star.
float foreign(const Star& star, const Star& other, float fwhm_px, int x, int y) {
  if (other.saturated) {
    const float own = distance(star, x, y), its = distance(other, x, y);
    return 1 - falling(own / std::max(own + its, 1e-3F), own_distance, foreign_distance);
  }
  return falling(distance(other, x, y), 0.8F * fwhm_px, 1.8F * fwhm_px);
}

/// What a star's pixels become, and how far.
struct Shrunk {
  Rect box, core;
  float understood = 1;
  Image light;
  Image share, share_if_darker;  ///< the latter where the network's result is darker
};

/// Other stars that count beside this one.
std::vector<const Star*> counting_neighbours(const ClippedPlace& place,
                                             const std::vector<ClippedFit>& found,
                                             const std::vector<const Star*>& others) {
  std::vector<const Star*> counting;
  for (const Star* other : others) {
    const auto x = static_cast<int>(std::lround(other->x)),
               y = static_cast<int>(std::lround(other->y));
    if (other->artefact || other->snr < least_neighbour_snr ||
        intersect({x, y, 1, 1}, place.box).size().pixels() == 0 ||
        place.core[place.index(x, y)] != 0)
      continue;
    double own = 0;
    for (const ClippedFit& channel : found)
      own += channel.flux * channel.measured[static_cast<Eigen::Index>(place.index(x, y))] /
             static_cast<double>(found.size());
    if (other->saturated ||
        static_cast<double>(other->peak) > static_cast<double>(counting_share) * own)
      counting.push_back(other);
  }
  return counting;
}

/// A star's light over the expected one, ring by ring.
class Rings {
 public:
  Rings(const RestoredPart& known, const ClippedPlace& place,
        const std::vector<ClippedFit>& found) {
    for (std::size_t c = 0; c < found.size(); ++c)
      excesses_.push_back(excess_by_radius(known, place, found[c], static_cast<int>(c)));
    means_.assign(excesses_.front().size(), 1.0);
    for (std::size_t r = 0; r < means_.size(); ++r) {
      for (const auto& curve : excesses_)
        means_[r] *= std::pow(curve[r], 1 / static_cast<double>(found.size()));
    }
  }
  [[nodiscard]] std::size_t at(float away) const {
    return std::min(static_cast<std::size_t>(std::lround(away)), means_.size() - 1);
  }
  /// Geometric mean of the channels.
  [[nodiscard]] double mean(std::size_t ring) const { return means_[ring]; }
  /// What is halo and no PSF, over the PSF's; an excess of some tens of per cent is its error.
  [[nodiscard]] double halo(std::size_t ring) const {
    const double more = std::max(0.0, means_[ring] - 1);
    return more * more / (more + doubtful_excess);
  }
  /// What makes a channel as bright as in a star that is as white as beside its core.
  [[nodiscard]] double white(std::size_t channel, std::size_t ring) const {
    return std::clamp(means_[ring] / excesses_[channel][ring], 1 / most_colour, most_colour);
  }

 private:
  std::vector<std::vector<double>> excesses_;
  std::vector<double> means_;
};

Shrunk draw(const RestoredPart& known, const ClippedPlace& place,
            const std::vector<ClippedFit>& found, const ClippedDrawing& drawing,
            const std::vector<const Star*>& others) {
  const Star& star = place.star;
  const int channels = known.before.channels();
  const Image none(channels, place.box.size(), 0.0F);
  Shrunk result{place.box,
                square_around(star, static_cast<int>(std::ceil(place.core_px)) + 1),
                1,
                none.clone(),
                none.clone(),
                none.clone()};
  const float level = clipped_share * *known.catalogue.saturation;
  const auto counting = counting_neighbours(place, found, others);
  const Rings rings(known, place, found);
  const auto ring_of = [&](int x, int y) { return rings.at(distance(star, x, y)); };
  double middle_x = 0, middle_y = 0;
  float& understood = result.understood;
  for (const ClippedFit& fit : found) {
    middle_x += fit.x / static_cast<double>(channels);
    middle_y += fit.y / static_cast<double>(channels);
    understood = std::min(
        understood, falling(static_cast<float>(fit.scatter), doubtful_scatter, wrong_scatter));
  }
  const auto noise_of = [&](std::size_t channel) {
    return std::max(static_cast<double>(known.catalogue.sky[channel].sigma),
                    found[channel].sky.scatter);
  };
  const auto starlight = [&](std::size_t channel, int x, int y) {
    return found[channel].flux *
           found[channel].measured[static_cast<Eigen::Index>(place.index(x, y))] *
           std::max(1.0, rings.mean(ring_of(x, y)));
  };
  const auto recorded = [&](std::size_t channel, int x, int y) {
    return static_cast<double>(known.before(static_cast<int>(channel), y, x)) -
           found[channel].sky.at(star, x, y);
  };
  const auto is_clipped = [&](std::size_t channel, int x, int y) {
    return known.before(static_cast<int>(channel), y, x) >= level;
  };
  const double beside =
      rings.halo(rings.at(place.core_px + (halo_result_fwhm + halo_end_fwhm) / 2 * known.fwhm_px));
  const auto shining = static_cast<float>(beside / (1 + beside));
  const float from = known.fwhm_px * std::lerp(result_fwhm, halo_result_fwhm, shining),
              to = known.fwhm_px * std::lerp(end_fwhm, halo_end_fwhm, shining);
  /// How far the light at a place is this star's.
  const auto own_share = [&](int x, int y) {
    float share = understood * falling(distance(star, x, y) - place.core_px, from, to);
    for (const Star* other : counting) share *= 1 - foreign(star, *other, known.fwhm_px, x, y);
    float more = 0;  // than this star explains
    for (std::size_t c = 0; c < found.size() && share > 0; ++c) {
      if (is_clipped(c, x, y)) continue;
      const double own = starlight(c, x, y);
      more = std::max(more, static_cast<float>((recorded(c, x, y) - own) /
                                               (foreign_share * own + seen_sigma * noise_of(c))));
    }
    return share * falling(more, 1, 2);
  };
  const Profile wanted = drawing.wanted(middle_x, middle_y);
  const double gain = drawing.gain();
  for_pixels(place.box, [&](int x, int y) {
    const float mine = own_share(x, y);
    if (mine <= 0) return;
    const auto i = static_cast<Eigen::Index>(place.index(x, y));
    const std::size_t ring = ring_of(x, y);
    const double halo = rings.halo(ring);
    const int u = x - place.box.x, v = y - place.box.y;
    for (std::size_t c = 0; c < found.size(); ++c) {
      const ClippedFit& here = found[c];
      const double base = here.sky.at(star, x, y), own = starlight(c, x, y),
                   narrower = (std::min(gain, wanted[i] / here.measured[i]) + halo) / (1 + halo),
                   light = is_clipped(c, x, y)
                               ? here.flux * wanted[i]
                               : recorded(c, x, y) * rings.white(c, ring) * narrower;
      const auto share = [&](double sigma) {
        return mine *
               static_cast<float>(own * own / (own * own + std::pow(sigma * noise_of(c), 2)));
      };
      const int channel = static_cast<int>(c);
      result.light.view()(channel, v, u) =
          static_cast<float>(base + std::min(light, gain * (static_cast<double>(level) - base)));
      result.share.view()(channel, v, u) = share(seen_sigma);
      result.share_if_darker.view()(channel, v, u) = share(darkened_sigma);
    }
  });
  return result;
}

}  // namespace

std::vector<Rect> shrink_clipped_stars(
    const RestoredPart& known, const std::function<TileControls(float x, float y)>& controls_at,
    MutableView after) {
  if (!known.catalogue.saturation) return {};
  std::vector<const Star*> stars;
  const int widest = largest_clipped_core_px + static_cast<int>(std::ceil(6 * known.fwhm_px));
  for (const Star& star : known.catalogue.stars) {
    if (star.saturated && !star.artefact && !star.on_edge &&
        intersect(square_around(star, widest), known.part).size().pixels() > 0)
      stars.push_back(&star);
  }
  if (stars.empty()) return {};
  const Neighbourhood neighbourhood(known.catalogue, widest);
  std::vector<std::optional<Shrunk>> shrunk(stars.size());
  parallel_for(static_cast<int>(stars.size()), known.threads, [&](int i) {
    const auto place = find_clipped_core(known, *stars[static_cast<std::size_t>(i)]);
    if (!place || intersect(place->box, known.part).size().pixels() == 0) return;
    const TileControls controls = controls_at(place->star.x, place->star.y);
    const ClippedDrawing drawing(*place, controls);
    std::vector<ClippedFit> found;
    for (int c = 0; c < after.channels(); ++c) {
      auto channel = fit_clipped_star(known, *place, drawing, c);
      if (!channel) return;
      found.push_back(std::move(*channel));
    }
    shrunk[static_cast<std::size_t>(i)] = draw(
        known, *place, found, drawing, neighbourhood.around(*stars[static_cast<std::size_t>(i)]));
  });
  std::vector<Rect> cores;
  for (const auto& one : shrunk) {
    if (!one) continue;
    if (one->understood >= 0.5F) cores.push_back(one->core);
    for (int c = 0; c < after.channels(); ++c) {
      for_pixels(intersect(one->box, known.part), [&](int x, int y) {
        float& value = after(c, y - known.part.y, x - known.part.x);
        const int u = x - one->box.x, v = y - one->box.y;
        const float missing = one->light.view()(c, v, u) - value;
        value += (missing > 0 ? one->share_if_darker : one->share).view()(c, v, u) * missing;
      });
    }
  }
  return cores;
}

}  // namespace limpid
