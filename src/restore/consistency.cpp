#include "restore/consistency.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include <Eigen/Dense>

#include <limpid/tiles.h>

#include "core/fft.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/neighbours.h"
#include "restore/geometry.h"
#include "restore/reblur.h"
#include "restore/star_optics.h"

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
/// Of the network, as a share of a star's light per term; and of what is left after that.
constexpr double expected_error = 0.2, expected_rest = 0.05;
constexpr double psf_error = 0.003;        // of a pixel's light
constexpr float rest_floor = 0.01F;        // nu where there is no noise: the PSF's error
constexpr double least_hole = 0.003;       // of the peak: darkness under it is none
constexpr std::size_t fewest_around = 50;  // pixels that tell level and noise

/// What all stars of a frame have in common.
struct Setting {
  const RestoredPart& known;
  ConstView after;
  int reach, side;
};

/// A star's surroundings: what was recorded and what was made of it.
class Stamp {
 public:
  Stamp(const Setting& setting, const Star& star, float window_px)
      : side_(setting.side),
        reach_px_(reach_fwhm * setting.known.fwhm_px) {
    const Rect middle = square_around(star, 0);
    const Rect square{middle.x - side_ / 2, middle.y - side_ / 2, side_, side_};
    const Rect part = setting.known.part;
    made_ = extract_mirrored(setting.after, {square.x - part.x, square.y - part.y, side_, side_});
    recorded_ = extract_mirrored(setting.known.before, square);
    for (int y = 0; y < side_; ++y) {
      for (int x = 0; x < side_; ++x) {
        const float dx = static_cast<float>(square.x + x) - star.x,
                    dy = static_cast<float>(square.y + y) - star.y;
        away_.push_back(std::sqrt(dx * dx + dy * dy));
        window_.push_back(falling(away_.back(), window_px / 2, window_px));
      }
    }
  }
  [[nodiscard]] float weight(int x, int y) const { return window_[index(x, y)]; }
  [[nodiscard]] float recorded(int channel, int x, int y) const {
    return recorded_.view()(channel, y, x);
  }
  [[nodiscard]] float made(int channel, int x, int y) const { return made_.view()(channel, y, x); }

  /// Recorded minus made and blurred again.
  [[nodiscard]] Image difference(const Optics& optics, int channel) const {
    const auto wanted = optics.wanted(), measured = optics.measured(channel);
    Spectrum spectrum = fft(made_.view().channel(channel));
    const auto values = spectrum.plane(0);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = blurred_back(values[i], measured[i], wanted[i]);
    Image result = inverse_fft(std::move(spectrum));
    for (int y = 0; y < side_; ++y) {
      const auto row = result.view().row(0, y);
      const auto seen = recorded_.view().row(channel, y);
      for (std::size_t x = 0; x < row.size(); ++x) row[x] = seen[x] - row[x];
    }
    return result;
  }

  struct Surroundings {
    float level = 0, darkest = 0, noise = 0;  ///< noise: of the difference
  };
  [[nodiscard]] std::optional<Surroundings> surroundings(ConstView difference, int channel) const {
    std::vector<float> differences, levels;
    for (int y = 2; y < side_ - 2; ++y) {
      // every second one, as on a chessboard: they tell the noise to a hundredth
      for (int x = 2 + y % 2; x < side_ - 2; x += 2) {
        if (away_[index(x, y)] < reach_px_) continue;
        differences.push_back(difference(0, y, x));
        levels.push_back(recorded(channel, x, y));
      }
    }
    if (levels.size() < fewest_around) return std::nullopt;
    Surroundings s;
    s.level = median_in_place(levels);
    // what is darker lies before it now
    s.darkest = quantile_in_place(std::span(levels).first(levels.size() / 2 + 1), 0.32);
    s.noise = robust_spread(differences).sigma;
    if (!(s.noise > 0)) return std::nullopt;
    return s;
  }

 private:
  [[nodiscard]] std::size_t index(int x, int y) const {
    return static_cast<std::size_t>(y * side_ + x);
  }
  int side_;
  float reach_px_;
  Image made_, recorded_;
  std::vector<float> away_, window_;
};

/// The terms that explain a difference, a constant level beside them; and what the fit tells of
/// the star.
struct Explanation {
  std::array<double, term_count> terms{};
  double level = 0, light = 0, peak = 0;
};

Explanation explain(const Stamp& stamp, ConstView difference, ConstView basis, int channel,
                    const Stamp::Surroundings& around, double sigma_px, int half) {
  constexpr int unknowns = term_count + 1;
  Eigen::Matrix<double, unknowns, unknowns> matrix;
  Eigen::Matrix<double, unknowns, 1> right, row;
  matrix.setZero();
  right.setZero();
  const int side = difference.width();
  const auto noise = static_cast<double>(around.noise);
  Explanation e;
  double squares = 0;
  for (int y = side / 2 - half; y <= side / 2 + half; ++y) {
    for (int x = side / 2 - half; x <= side / 2 + half; ++x) {
      const auto w = static_cast<double>(stamp.weight(x, y));
      if (w == 0) continue;
      const auto over = static_cast<double>(stamp.recorded(channel, x, y) - around.level);
      const double unsure = psf_error * std::max(0.0, over);
      const double weight = w / (noise * noise + unsure * unsure);
      for (int k = 0; k < term_count; ++k) row[k] = static_cast<double>(basis(k, y, x));
      row[term_count] = 1;
      matrix.selfadjointView<Eigen::Lower>().rankUpdate(row, weight);
      right += weight * static_cast<double>(difference(0, y, x)) * row;
      e.light += w * row[0] * over;
      squares += w * row[0] * row[0];
      e.peak = std::max(e.peak, over);
    }
  }
  e.light /= squares;
  if (!(e.light > 0)) return e;
  const double error = expected_error * e.light, s = sigma_px;
  const std::array<double, term_count> prior{
      1, s, s, s * s, s * s, s * s, s * s * s / 3, s * s * s / 3};
  for (int k = 0; k < term_count; ++k) {
    const double scale = error * prior[static_cast<std::size_t>(k)];
    matrix(k, k) += 1 / (scale * scale);
  }
  const Eigen::Matrix<double, unknowns, 1> found =
      matrix.selfadjointView<Eigen::Lower>().ldlt().solve(right);
  for (int k = 0; k < term_count; ++k) e.terms[static_cast<std::size_t>(k)] = found[k];
  e.level = found[term_count];
  return e;
}

/// Takes the error of the light itself away, which is not settled here: that of a star which lies
/// (dx, dy) beside the terms' centre, to second order.
Explanation without_light(Explanation e, double dx, double dy) {
  const double light = e.terms[0];
  const std::array<double, 6> taylor{1, -dx, -dy, dx * dx / 2, dx * dy, dy * dy / 2};
  for (std::size_t k = 0; k < taylor.size(); ++k) e.terms[k] -= light * taylor[k];
  return e;
}

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
        known += e.terms[static_cast<std::size_t>(k)] * static_cast<double>(basis(k, y, x));
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

Correction correct(const Setting& setting, const Star& star, float window_px,
                   const Optics& optics) {
  const int reach = setting.reach, corner = setting.side / 2 - reach, size = 2 * reach + 1;
  const Stamp stamp(setting, star, window_px);
  Correction result{square_around(star, reach),
                    Image(setting.after.channels(), {size, size}, 0.0F)};
  const auto dx = static_cast<double>(star.x - std::round(star.x) - optics.dx()),
             dy = static_cast<double>(star.y - std::round(star.y) - optics.dy());
  const ConstView output = optics.wanted_terms();
  for (int c = 0; c < setting.after.channels(); ++c) {
    Image difference = stamp.difference(optics, c);
    const auto around = stamp.surroundings(difference.view(), c);
    if (!around) continue;
    const Explanation whole =
        explain(stamp, difference.view(), optics.measured_terms(c), c, *around, optics.sigma_px(),
                std::min(setting.side / 2 - 1, static_cast<int>(std::ceil(window_px)) + 1));
    if (!(whole.light > 0)) continue;
    const Explanation shape = without_light(whole, dx, dy);
    const auto noise = static_cast<double>(around->noise);
    Image rest;
    if (star.snr >= least_free_snr) {
      rest = sharpened_rest(stamp, std::move(difference), optics, c, whole, noise);
    }
    const auto change = result.change.view().channel(c);
    for (int y = 0; y < size; ++y) {
      for (int x = 0; x < size; ++x) {
        double sum = 0;
        for (int k = 0; k < term_count; ++k) {
          sum += shape.terms[static_cast<std::size_t>(k)] * static_cast<double>(output(k, y, x));
        }
        if (!rest.empty()) {
          sum += static_cast<double>(stamp.weight(corner + x, corner + y) *
                                     rest.view()(0, corner + y, corner + x));
        }
        change(0, y, x) = static_cast<float>(sum);
      }
    }
    // where it would make darkness that was not there the PSF is not known well enough
    float share = 1;
    const auto slack = static_cast<float>(std::max(3 * noise, least_hole * whole.peak));
    for (int y = 0; y < size; ++y) {
      for (int x = 0; x < size; ++x) {
        const float by = change(0, y, x), was = stamp.made(c, corner + x, corner + y),
                    least = std::min(was, around->darkest) - slack;
        if (was + by < least) share = std::min(share, (was - least) / -by);
      }
    }
    for (float& value : result.change.pixels().subspan(static_cast<std::size_t>(c * size * size),
                                                       static_cast<std::size_t>(size * size)))
      value *= share;
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

int make_consistent(const RestoredPart& known,
                    const std::function<TileControls(float x, float y)>& controls_at,
                    MutableView after) {
  const float widest_px = std::max(least_reach_px, reach_fwhm * known.fwhm_px);
  const int reach = static_cast<int>(std::ceil(widest_px));
  const int side = good_fft_length(
      std::max(psf_kernel_px, 2 * (reach + static_cast<int>(std::ceil(2.5F * known.fwhm_px)) + 2)));
  const Setting setting{known, after, reach, side};
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
      return Optics(controls, after.channels(), terms, reach, dx, dy);
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
