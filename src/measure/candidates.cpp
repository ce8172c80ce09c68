#include "measure/candidates.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/parallel.h"

namespace limpid {
namespace {

/// Brightest pixel of the detection frame next to the peak of the filtered one.
std::pair<int, int> brightest_pixel(ConstView detection, const Peak& peak) {
  std::pair<int, int> best{peak.x, peak.y};
  for (int y = std::max(0, peak.y - 1); y <= std::min(detection.height() - 1, peak.y + 1); ++y) {
    for (int x = std::max(0, peak.x - 1); x <= std::min(detection.width() - 1, peak.x + 1); ++x) {
      if (detection(0, y, x) > detection(0, best.second, best.first)) best = {x, y};
    }
  }
  return best;
}

/// Sharper across at least one direction than the optics allow: a cosmic ray or a hot pixel.
bool is_artefact(ConstView detection, const Peak& peak, const StarTemplate& shape, float noise) {
  const auto [x, y] = brightest_pixel(detection, peak);
  if (x < 1 || y < 1 || x >= detection.width() - 1 || y >= detection.height() - 1) return false;
  const float centre = detection(0, y, x);
  if (centre <= 0) return false;
  constexpr std::array<std::pair<int, int>, 4> directions{{{1, 0}, {0, 1}, {1, 1}, {1, -1}}};
  for (const auto& [dx, dy] : directions) {
    const float sides =
        0.5F * (detection(0, y + dy, x + dx) + detection(0, y - dy, x - dx)) / centre;
    const float expected = dx * dy == 0 ? shape.neighbour : shape.diagonal_neighbour;
    // 4.5: noise of the mean of two pixels is 0.71 sigma, and the brightest of nine was chosen;
    // 0.5: stars at the frame's best corner are sharper than the typical one.
    if (sides < 0.5F * expected - 4.5F * 0.71F * noise / centre) return true;
  }
  return false;
}

enum class Kind { star, artefact, other };

/// Curvature of a peak over that of a point, along the two axes where it is most and least.
struct Curvature {
  float mean, least;
};
Curvature curvature_of(const Peak& peak, const StarTemplate& shape) {
  return {0.5F * (peak.most_curved + peak.least_curved) / shape.curvature,
          peak.least_curved / shape.curvature};
}

/// As that of a point. Knots of nebulae have half of it, seven tenths in one of a hundred.
bool is_sharp(const Curvature& curvature) {
  return curvature.mean > 0.8F && curvature.least > 0.6F;
}

/// Within a FWHM of the frame's edge.
bool is_cut(const Peak& peak, Size frame, float fwhm_px) {
  const int nearest =
      std::min({peak.x, peak.y, frame.width - 1 - peak.x, frame.height - 1 - peak.y});
  return static_cast<float>(nearest) < fwhm_px;
}

Kind kind_of(const CandidateInput& input, const Candidate& candidate, float detection_noise) {
  const Peak& peak = candidate.peak;
  if (is_artefact(input.detection, peak, input.shape, detection_noise)) return Kind::artefact;
  // what only stands out of the noise, not of the nebula's structure, must be as sharp as a point
  if (peak.snr < input.threshold_sigma && !candidate.sharp) return Kind::other;
  const auto [mean, least] = curvature_of(peak, input.shape);
  // 1.5 / snr: error of the curvature, from simulated stars; three of them are granted.
  const float error = 3 * 1.5F / std::max(peak.pixel_snr, 1.0F);
  if (is_cut(peak, input.frame.size(), input.shape.fwhm_px))  // and so mirrored: a long pair
    return peak.most_curved / input.shape.curvature < 0.55F - error ? Kind::other : Kind::star;
  // stars of corners may be half as wide again; over nebulae that is more often a knot
  const float least_mean = peak.snr < 2 * input.threshold_sigma ? 0.7F : 0.55F;
  if (mean < least_mean - error) return Kind::other;  // a galaxy, a knot of nebula
  if (least < 0.25F - error) return Kind::other;      // a filament, a spike
  return Kind::star;
}

/// Radius of a circle as large as the clipped area the peak sits in; 0 when it is not clipped.
float clipped_radius(const CandidateInput& input, const Peak& peak) {
  const int reach = static_cast<int>(std::lround(12 * input.shape.fwhm_px));
  const auto clipped = [&](int x, int y) {
    for (int c = 0; c < input.frame.channels(); ++c) {
      if (input.frame(c, y, x) >= input.saturation[static_cast<std::size_t>(c)]) return true;
    }
    return false;
  };
  const Rect near =
      intersect({peak.x - 1, peak.y - 1, 3, 3}, {0, 0, input.frame.width(), input.frame.height()});
  bool touched = false;
  for (int y = near.y; y < near.y + near.height; ++y) {
    for (int x = near.x; x < near.x + near.width; ++x) touched = touched || clipped(x, y);
  }
  if (!touched) return 0;
  // Along the row and the column: enough for what stays away from the star, and never far.
  int along = 1;
  for (const auto& [dx, dy] :
       std::array<std::pair<int, int>, 4>{{{1, 0}, {-1, 0}, {0, 1}, {0, -1}}}) {
    for (int step = 1; step <= reach; ++step) {
      const int x = peak.x + step * dx, y = peak.y + step * dy;
      if (x < 0 || y < 0 || x >= input.frame.width() || y >= input.frame.height()) break;
      if (!clipped(x, y)) break;
      ++along;
    }
  }
  return std::max(0.5F, static_cast<float>(along) / 4);
}

/// Sum of the channels' light within a FWHM, as much as a star of the template's shape has there.
void measure_light(const CandidateInput& input, Candidate& candidate, float enclosed) {
  const Peak& peak = candidate.peak;
  const int reach = static_cast<int>(std::lround(0.75F * input.shape.fwhm_px + 0.5F));
  float sum = 0, highest = 0;
  bool on_edge = false;
  for (int y = peak.y - reach; y <= peak.y + reach; ++y) {
    for (int x = peak.x - reach; x <= peak.x + reach; ++x) {
      if (x < 0 || y < 0 || x >= input.frame.width() || y >= input.frame.height()) {
        on_edge = true;
        continue;
      }
      for (int c = 0; c < input.frame.channels(); ++c) {
        const auto i = static_cast<std::size_t>(c);
        const float value = input.frame(c, y, x);
        if (!std::isfinite(value) || !input.sky.coverage[i].covers(x, y)) {
          on_edge = true;
          continue;
        }
        const float over_sky =
            value - input.sky.mesh[i].at(static_cast<float>(x), static_cast<float>(y));
        sum += over_sky;
        highest = std::max(highest, over_sky);
      }
    }
  }
  candidate.star.flux = sum / enclosed;
  candidate.star.peak = highest;
  candidate.star.on_edge = on_edge;
}

/// Candidates sorted into squares, to find those near a place quickly.
class Neighbourhood {
 public:
  Neighbourhood(const std::vector<Candidate>& candidates, Size frame, int cell_px)
      : cell_px_(cell_px),
        columns_(frame.width / cell_px + 1),
        rows_(frame.height / cell_px + 1),
        cells_(static_cast<std::size_t>(columns_) * static_cast<std::size_t>(rows_)) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const Peak& peak = candidates[i].peak;
      cells_[cell(peak.x / cell_px_, peak.y / cell_px_)].push_back(static_cast<int>(i));
    }
  }
  template <typename Visit>
  void visit(const Peak& centre, float radius, Visit&& each) const {
    const int reach = static_cast<int>(radius) + 1;
    const int left = std::max(0, (centre.x - reach) / cell_px_);
    const int right = std::min(columns_ - 1, (centre.x + reach) / cell_px_);
    const int bottom = std::min(rows_ - 1, (centre.y + reach) / cell_px_);
    for (int row = std::max(0, (centre.y - reach) / cell_px_); row <= bottom; ++row) {
      for (int column = left; column <= right; ++column) {
        for (const int index : cells_[cell(column, row)]) each(index);
      }
    }
  }

 private:
  [[nodiscard]] std::size_t cell(int column, int row) const {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns_) +
           static_cast<std::size_t>(column);
  }
  int cell_px_, columns_, rows_;
  std::vector<std::vector<int>> cells_;
};

float distance(const Candidate& a, const Candidate& b) {
  return std::hypot(a.peak.sub_x - b.peak.sub_x, a.peak.sub_y - b.peak.sub_y);
}

/// Light of `star` at a distance, in the units of `brightness`, its clipped core made up for.
float halo(const Candidate& star, float distance_px, const StarTemplate& shape) {
  return star.brightness * shape.profile(distance_px) / shape.profile(star.plateau_px);
}

/// The distance at which the light of `star` has fallen to `level`.
float halo_radius(const Candidate& star, float level, const StarTemplate& shape) {
  const float ratio = star.brightness / shape.profile(star.plateau_px) / level;
  if (ratio <= 1) return 0;
  const float spread = std::exp2(1 / shape.beta) - 1;
  return 0.5F * shape.fwhm_px * std::sqrt((std::pow(ratio, 1 / shape.beta) - 1) / spread);
}

/// Bumps in the halo of a much brighter star, and further maxima of one clipped core, are no stars
/// of their own. `candidates` are sorted, brightest first.
std::vector<bool> belong_to_brighter(const std::vector<Candidate>& candidates,
                                     const Neighbourhood& around, const StarTemplate& shape) {
  // A bump under 30 % of the halo it sits on: rings, rays and shot noise reach that.
  constexpr float bump = 0.3F;
  std::vector<bool> owned(candidates.size(), false);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& star = candidates[i];
    if (owned[i] || star.star.artefact) continue;
    const float core = star.plateau_px > 0 ? 2 * star.plateau_px + shape.fwhm_px : 0.0F;
    const float radius =
        std::min(std::max(core, halo_radius(star, 3.0F / bump, shape)), 20 * shape.fwhm_px + core);
    around.visit(star.peak, radius, [&](int index) {
      const auto j = static_cast<std::size_t>(index);
      if (j <= i || owned[j]) return;
      const float apart = distance(star, candidates[j]);
      const bool same_core = star.plateau_px > 0 && apart < core && candidates[j].plateau_px > 0;
      owned[j] = same_core || candidates[j].brightness < bump * halo(star, apart, shape);
    });
  }
  return owned;
}

/// Marks stars whose fit a neighbour would spoil, and notes the neighbours to mask in the others'.
void find_neighbours(std::vector<Candidate>& candidates, Size frame, const StarTemplate& shape) {
  const Neighbourhood around(candidates, frame, 32);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    Candidate& star = candidates[i];
    const float radius =
        std::min(6 * shape.fwhm_px + halo_radius(star, 1, shape), 20 * shape.fwhm_px);
    around.visit(star.peak, radius, [&](int index) {
      const auto j = static_cast<std::size_t>(index);
      if (j == i) return;
      const float apart = distance(star, candidates[j]);
      if (apart > radius) return;
      Candidate& other = candidates[j];
      // 5 %: what is left of it after masking changes a width by under 1 %.
      const bool spoils =
          halo(star, apart, shape) > 0.05F * other.brightness ||
          (apart < 1.5F * shape.fwhm_px && star.brightness > 0.02F * other.brightness);
      if (spoils) other.star.blended = true;
      if (halo(star, std::max(0.0F, apart - 3.5F * shape.fwhm_px), shape) > 0.3F) {
        other.neighbours.push_back(static_cast<int>(i));
      }
    });
  }
}

}  // namespace

std::vector<Candidate> judge_peaks(const CandidateInput& input, const std::vector<Peak>& peaks,
                                   int threads) {
  float enclosed = 0;
  {
    const int reach = static_cast<int>(std::lround(0.75F * input.shape.fwhm_px + 0.5F));
    Psf psf;
    psf.fwhm_px = input.shape.fwhm_px;
    psf.beta = input.shape.beta;
    const Image kernel = psf.kernel(2 * (4 * reach + 8) + 1);
    const int middle = kernel.width() / 2;
    for (int y = -reach; y <= reach; ++y) {
      for (int x = -reach; x <= reach; ++x) enclosed += kernel.view()(0, middle + y, middle + x);
    }
  }
  const Coverage whole(input.detection);
  const Mesh noise(input.detection, whole, 64, lower_scatter, threads);
  std::vector<Candidate> judged(peaks.size());
  std::vector<Kind> kinds(peaks.size(), Kind::star);
  constexpr int share = 256;
  const int shares = static_cast<int>((peaks.size() + share - 1) / share);
  parallel_for(shares, threads, [&](int part) {
    const auto first = static_cast<std::size_t>(part) * share;
    for (std::size_t i = first; i < std::min(first + share, peaks.size()); ++i) {
      Candidate& candidate = judged[i];
      candidate.peak = peaks[i];
      const Peak& peak = candidate.peak;
      measure_light(input, candidate, enclosed);
      candidate.plateau_px = clipped_radius(input, peak);
      candidate.star.x = peak.sub_x;
      candidate.star.y = peak.sub_y;
      candidate.star.snr = peak.snr;
      candidate.star.saturated = candidate.plateau_px > 0;
      candidate.sharp = is_sharp(curvature_of(peak, input.shape));
      const auto [x, y] = brightest_pixel(input.detection, peak);
      candidate.brightness = input.detection(0, y, x);
      if (!candidate.star.saturated)
        kinds[i] = kind_of(input, candidate, noise.at(peak.sub_x, peak.sub_y));
      candidate.star.artefact = kinds[i] == Kind::artefact;
    }
  });
  std::vector<Candidate> candidates;
  for (std::size_t i = 0; i < judged.size(); ++i) {
    if (kinds[i] != Kind::other) candidates.push_back(std::move(judged[i]));
  }
  const auto brighter = [](const Candidate& a, const Candidate& b) {
    const float light_a = a.brightness * (1 + a.plateau_px),
                light_b = b.brightness * (1 + b.plateau_px);
    return std::pair(light_b, a.peak.y * 65536LL + a.peak.x) <
           std::pair(light_a, b.peak.y * 65536LL + b.peak.x);
  };
  std::ranges::sort(candidates, brighter);
  const auto owned = belong_to_brighter(
      candidates, Neighbourhood(candidates, input.frame.size(), 32), input.shape);
  std::vector<Candidate> kept;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (!owned[i]) kept.push_back(std::move(candidates[i]));
  }
  find_neighbours(kept, input.frame.size(), input.shape);
  return kept;
}

}  // namespace limpid
