#include "restore/consistency.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <vector>

#include "core/fft.h"
#include "core/parallel.h"
#include "measure/moffat.h"
#include "measure/neighbours.h"
#include "restore/geometry.h"
#include "restore/point_source.h"
#include "restore/star_optics.h"
#include "restore/star_stamp.h"

namespace limpid {
namespace {

constexpr float least_snr = 10, least_free_snr = 30;  // the latter for what is no derivative
/// Stars of a cell share their PSF; a frame has at least so many cells on its shorter side.
constexpr int largest_cell_px = 192, smallest_cell_px = 48, least_cells = 6;
/// Windows about a star, in FWHM of the frame; smaller beside another of a twentieth of its light.
constexpr float reach_fwhm = 3, least_reach_px = 6, smallest_fwhm = 1;
constexpr float counting_share = 0.05F, nearer_half = 0.6F;
/// Of a narrower star the pixels show more than the profile: where in its pixel it stands.
constexpr float well_sampled_px = 1.8F;
constexpr double expected_rest = 0.05;  // of the network, after the terms: share of a star's light
constexpr double expected_core_px = 0.1;  // error of what the field says of it
constexpr float rest_floor = 0.01F;       // nu where there is no noise: the PSF's error
constexpr double least_hole = 0.003;      // of the peak: darkness under it is none

/// What all stars of a frame have in common.
struct Setting {
  const RestoredPart& known;
  const PsfErrors& errors;
  ConstView after;
  int reach, side;
};

/// What is to be added around a star.
struct Correction {
  Rect box;  ///< of the frame; empty: nothing
  Image change;
};

/// What of the difference is no term, sharpened by a Wiener filter (see make_consistent).
Image sharpened_rest(const Stamp& stamp, Image difference, const Optics& optics, int channel,
                     const Explanation& e, double noise) {
  const int side = difference.width();
  const ConstView basis = optics.measured_terms(channel);
  double area = 0;
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const float w = stamp.weight(x, y);
      float& value = difference.view()(0, y, x);
      double known = e.level;
      for (int k = 0; k < term_count && w > 0; ++k) {
        known += e.difference[static_cast<std::size_t>(k)] * static_cast<double>(basis(k, y, x));
      }
      value = w * (value - static_cast<float>(known));
      area += static_cast<double>(w * w);
    }
  }
  const double share = expected_rest * e.light;
  const auto nu = static_cast<float>(noise * noise * area / (share * share)) + rest_floor;
  const auto wanted = optics.wanted(), measured = optics.measured(channel);
  Spectrum spectrum = fft(difference.view());
  const auto values = spectrum.plane(0);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] *= wanted[i] * std::conj(measured[i]) / (std::norm(measured[i]) + nu);
  return inverse_fft(std::move(spectrum));
}

/// One channel of a star.
struct Channel {
  Image difference;
  Stamp::Surroundings around;
  Explanation found;
  PointSource point;
};

/// Nothing of a channel that tells nothing.
std::vector<std::optional<Channel>> look_at(const Setting& setting, const Star& star,
                                            const Stamp& stamp, const Optics& optics, double dx,
                                            double dy, int half) {
  std::vector<std::optional<Channel>> channels;
  const bool placed = !star.fits.empty();
  for (int c = 0; c < setting.after.channels(); ++c) {
    auto& channel = channels.emplace_back();
    Image difference = stamp.difference(optics, c);
    const auto around =
        stamp.surroundings(difference.view(), c, reach_fwhm * setting.known.fwhm_px);
    if (!around) continue;
    const auto found = explain(stamp, difference.view(), optics, c, *around, dx, dy, half);
    if (!found) continue;
    channel.emplace(Channel{std::move(difference), *around, *found, {}});
    if (!star.blended)
      channel->point = as_point(*found, setting.errors, optics.measured_sigma_px(c), placed);
  }
  return channels;
}

/// From its catalogued place to the one that a Moffat finds when all pixels weigh the same, px: at
/// its core. One sigma of the mean over the channels comes last. Nothing where no channel is
/// fitted.
std::optional<std::array<double, 3>> core_of(const Setting& setting, const Star& star,
                                             float window_px) {
  const ConstView frame = setting.known.before;
  const auto reach = static_cast<int>(std::ceil(window_px));
  const Rect box = intersect(square_around(star, reach), {0, 0, frame.width(), frame.height()});
  double x = 0, y = 0, variance = 0, weights = 0;
  for (int c = 0; c < frame.channels(); ++c) {
    MoffatOptions options;
    options.sky_sigma =
        static_cast<double>(setting.known.catalogue.sky[static_cast<std::size_t>(c)].sigma);
    if (!(options.sky_sigma > 0)) return std::nullopt;
    MoffatStart start;
    start.x = static_cast<double>(star.x) - box.x;
    start.y = static_cast<double>(star.y) - box.y;
    start.fwhm_px = static_cast<double>(star.fwhm_px > 0 ? star.fwhm_px : setting.known.fwhm_px);
    const auto fit = fit_moffat(frame.channel(c).crop(box), start, options);
    if (!fit || !(fit->error.x > 0)) continue;
    // channels count alike, as in the catalogue, but for what noise makes of them
    const double weight = 1 / (fit->error.x * fit->error.x + expected_core_px * expected_core_px);
    x += weight * (fit->value.x - start.x);
    y += weight * (fit->value.y - start.y);
    variance += std::pow(weight * fit->error.x, 2);
    weights += weight;
  }
  if (weights == 0) return std::nullopt;
  return std::array{x / weights, y / weights, std::sqrt(variance) / weights};
}

/// Where the star is, from its catalogued place, px: at its core, and where no fit told the place
/// the pixels do.
std::array<float, 2> shift_of(const Setting& setting, const Star& star, float window_px,
                              const std::vector<std::optional<Channel>>& channels,
                              const Optics& optics) {
  std::array<double, 2> shift = optics.to_core();
  if (!star.fits.empty() && !star.blended) {
    if (const auto own = core_of(setting, star, window_px)) {
      const double error = (*own)[2], trust = expected_core_px * expected_core_px /
                                              (expected_core_px * expected_core_px + error * error);
      for (const std::size_t i : {0U, 1U}) shift[i] += trust * ((*own)[i] - shift[i]);
    }
  }
  double weights = 0;
  std::array<double, 2> sum{};
  for (const auto& channel : channels) {
    if (!channel || !star.fits.empty()) continue;
    const double light = channel->found.light;
    const double weight = std::pow(light / channel->found.own_error[1], 2);
    weights += weight;
    for (const std::size_t i : {0U, 1U}) sum[i] -= weight * channel->found.own[i + 1] / light;
  }
  for (const std::size_t i : {0U, 1U}) {
    if (weights > 0) shift[i] += sum[i] / weights;
  }
  return {static_cast<float>(shift[0]), static_cast<float>(shift[1])};
}

/// The difference's terms and, of what is no point, the rest, as the wanted PSF shows them.
void add_terms(const Stamp& stamp, Channel& channel, int number, const Optics& optics,
               const Terms& shape, bool with_rest, MutableView change) {
  const int size = change.width(), corner = stamp.side() / 2 - size / 2;
  const ConstView output = optics.wanted_terms();
  Image rest;
  if (with_rest) {
    rest = sharpened_rest(stamp, std::move(channel.difference), optics, number, channel.found,
                          static_cast<double>(channel.around.noise));
  }
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      double sum = 0;
      for (int k = 0; k < term_count; ++k)
        sum += shape[static_cast<std::size_t>(k)] * static_cast<double>(output(k, y, x));
      if (with_rest) {
        sum += static_cast<double>(stamp.weight(corner + x, corner + y) *
                                   rest.view()(0, corner + y, corner + x));
      }
      change(0, y, x) = static_cast<float>(sum);
    }
  }
}

/// Where the change would make darkness that was not there the PSF is not known well enough.
void scale_down(const Stamp& stamp, const Channel& channel, int number, MutableView change) {
  const int size = change.width(), corner = stamp.side() / 2 - size / 2;
  float share = 1;
  const auto slack = static_cast<float>(
      std::max(3 * static_cast<double>(channel.around.noise), least_hole * channel.found.peak));
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const float by = change(0, y, x), was = stamp.made(number, corner + x, corner + y),
                  least = std::min(was, channel.around.darkest) - slack;
      if (was + by < least) share = std::min(share, (was - least) / -by);
    }
  }
  for (int y = 0; y < size; ++y) {
    for (float& value : change.row(0, y)) value *= share;
  }
}

Correction correct(const Setting& setting, const Star& star, float window_px,
                   const Optics& optics) {
  const int size = 2 * setting.reach + 1;
  const Stamp stamp(setting.known, setting.after, star, setting.side, window_px);
  Correction result{square_around(star, setting.reach),
                    Image(setting.after.channels(), {size, size}, 0.0F)};
  const float in_pixel_x = star.x - std::round(star.x), in_pixel_y = star.y - std::round(star.y);
  const auto dx = static_cast<double>(in_pixel_x - optics.dx()),
             dy = static_cast<double>(in_pixel_y - optics.dy());
  auto channels =
      look_at(setting, star, stamp, optics, dx, dy,
              std::min(setting.side / 2 - 1, static_cast<int>(std::ceil(window_px)) + 1));
  const auto shift = shift_of(setting, star, window_px, channels, optics);
  const Image drawn = optics.drawn(in_pixel_x + shift[0], in_pixel_y + shift[1], size);
  for (int c = 0; c < setting.after.channels(); ++c) {
    auto& channel = channels[static_cast<std::size_t>(c)];
    if (!channel) continue;
    const auto change = result.change.view().channel(c);
    Terms shape = without_light(channel->found.difference, dx, dy);
    for (std::size_t k = 0; k < shape.size(); ++k) shape[k] -= channel->point.error_of_psf[k];
    // of a point the core will be drawn
    const bool with_rest = star.snr >= least_free_snr && channel->point.likely < 1;
    add_terms(stamp, *channel, c, optics, shape, with_rest, change);
    scale_down(stamp, *channel, c, change);
    if (channel->point.likely > 0) {
      draw_point(stamp, c, drawn.view(), optics.measured_terms(c),
                 {channel->found.light, static_cast<double>(channel->point.likely),
                  static_cast<double>(channel->around.scatter)},
                 change);
    }
  }
  return result;
}

/// How far a window about the star may reach beside its neighbours, px.
float free_reach(const Star& star, const Neighbourhood& neighbourhood, float reach_px) {
  for (const Star* other : neighbourhood.around(star)) {
    if (other->flux >= counting_share * star.flux)
      reach_px = std::min(reach_px, nearer_half * std::hypot(other->x - star.x, other->y - star.y));
  }
  return reach_px;
}

}  // namespace

int make_consistent(const RestoredPart& known, const PsfErrors& errors,
                    const std::function<TileControls(float x, float y)>& controls_at,
                    MutableView after) {
  const float widest_px = std::max(least_reach_px, reach_fwhm * known.fwhm_px);
  const int reach = static_cast<int>(std::ceil(widest_px));
  const int side = good_fft_length(
      std::max(psf_kernel_px, 2 * (reach + static_cast<int>(std::ceil(2.5F * known.fwhm_px)) + 2)));
  const Setting setting{known, errors, after, reach, side};
  const int cell_px =
      std::clamp(std::min(known.before.width(), known.before.height()) / least_cells,
                 smallest_cell_px, largest_cell_px);
  const auto middle = [&](int cell) {
    return (static_cast<float>(cell) + 0.5F) * static_cast<float>(cell_px);
  };
  std::map<std::pair<int, int>, std::vector<const Star*>> cells;
  int count = 0;
  for (const Star& star : known.catalogue.stars) {
    const Rect box = square_around(star, reach + 2);
    if (star.saturated || star.artefact || star.on_edge || star.snr < least_snr ||
        intersect(box, known.part) != box)
      continue;
    cells[{static_cast<int>(star.y) / cell_px, static_cast<int>(star.x) / cell_px}].push_back(
        &star);
    ++count;
  }
  const std::vector<std::pair<std::pair<int, int>, std::vector<const Star*>>> list(cells.begin(),
                                                                                   cells.end());
  const Neighbourhood neighbourhood(known.catalogue, std::max(16, 2 * reach + 2), known.part);
  const Spectrum terms = term_transfers(side);
  std::vector<std::vector<Correction>> corrections(list.size());
  parallel_for(static_cast<int>(list.size()), known.threads, [&](int i) {
    const auto& [place, stars] = list[static_cast<std::size_t>(i)];
    const TileControls controls = controls_at(middle(place.second), middle(place.first));
    const auto optics_at = [&](float dx, float dy) {
      return Optics(controls, after.channels(), terms, reach, dx, dy, errors.core_width);
    };
    std::optional<Optics> shared;
    if (wanted_psfs(controls).stellar.fwhm_px >= well_sampled_px) shared.emplace(optics_at(0, 0));
    for (const Star* star : stars) {
      const float window_px = free_reach(*star, neighbourhood, widest_px);
      if (window_px < smallest_fwhm * known.fwhm_px) continue;
      corrections[static_cast<std::size_t>(i)].push_back(
          shared
              ? correct(setting, *star, window_px, *shared)
              : correct(setting, *star, window_px,
                        optics_at(star->x - std::round(star->x), star->y - std::round(star->y))));
    }
  });
  for (const auto& cell : corrections) {
    for (const Correction& one : cell) {
      for (int c = 0; c < after.channels(); ++c) {
        for (int y = 0; y < one.box.height; ++y) {
          const auto from = one.change.view().row(c, y);
          const auto to = after.row(c, one.box.y + y - known.part.y);
          for (int x = 0; x < one.box.width; ++x) {
            to[static_cast<std::size_t>(one.box.x + x - known.part.x)] +=
                from[static_cast<std::size_t>(x)];
          }
        }
      }
    }
  }
  return count;
}

}  // namespace limpid
