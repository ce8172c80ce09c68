// What stars show beyond the Moffat profile: residuals of many stars, stacked on a fine grid.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>

#include <Eigen/Dense>

#include <limpid/stars.h>

#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/moffat.h"
#include "measure/neighbours.h"
#include "measure/polynomials.h"

namespace limpid {
namespace {

constexpr int oversampling = 2;
constexpr int fewest_stars = 8;
constexpr int highest_order = 2;
constexpr std::size_t most_stars = 200;
constexpr float least_snr = 40;
/// From this share of the reach on pixels tell the level about a star.
constexpr double outermost_share = 0.85;
/// Stars are found again with what the stack before told.
constexpr int more_rounds = 2;
/// Prior of a residual: this share of the profile there, plus this share of its peak.
constexpr double prior_of_profile = 0.15, prior_of_peak = 0.003;

/// Cells across the grid.
int grid_side(int reach_px) { return 2 * oversampling * (reach_px + 1) + 1; }

/// Coefficients on the grid, one plane of side * side cells per term.
using Planes = std::vector<std::vector<float>>;

/// One pixel of one star: where on the grid it falls, and by how much it misses the Moffat.
struct Sample {
  float column, row;             ///< grid coordinates
  float value, variance, prior;  ///< as shares of the star's flux; prior is one sigma
};
struct StarSamples {
  Eigen::VectorXd terms;  ///< of highest_order, at the star's place
  std::vector<Sample> samples;
};

/// Bilinear, on a plane of side * side cells.
double interpolate(const std::vector<float>& plane, int side, double column, double row) {
  const int x = static_cast<int>(column), y = static_cast<int>(row);
  const double fx = column - x, fy = row - y;
  const float* at = &plane[static_cast<std::size_t>(y * side + x)];
  return (1 - fy) * ((1 - fx) * static_cast<double>(at[0]) + fx * static_cast<double>(at[1])) +
         fy * ((1 - fx) * static_cast<double>(at[side]) + fx * static_cast<double>(at[side + 1]));
}

/// What the planes say of the residual at a place of the grid; 0 without planes.
double predict(const Planes& planes, int side, const Eigen::VectorXd& terms, double column,
               double row) {
  double value = 0;
  for (std::size_t a = 0; a < planes.size(); ++a)
    value += terms[static_cast<Eigen::Index>(a)] * interpolate(planes[a], side, column, row);
  return value;
}
double predict(const Planes& planes, int side, const Eigen::VectorXd& terms, const Sample& s) {
  return predict(planes, side, terms, static_cast<double>(s.column), static_cast<double>(s.row));
}

/// Accumulates weighted normal equations, cell by cell, and solves them.
class Grid {
 public:
  Grid(int side, int terms)
      : side_(side),
        terms_(terms),
        stride_(terms + terms * (terms + 1) / 2 + 1),
        sums_(static_cast<std::size_t>(side * side * stride_)) {}
  /// Samples that miss `clip_against` by far are left out; nullptr: none are.
  void add(const StarSamples& star, const Planes* clip_against) {
    for (const Sample& s : star.samples) {
      if (clip_against != nullptr) {
        const double miss =
            static_cast<double>(s.value) - predict(*clip_against, side_, star.terms, s);
        if (miss * miss > 25 * static_cast<double>(s.variance + s.prior * s.prior)) continue;
      }
      const int column = static_cast<int>(s.column), row = static_cast<int>(s.row);
      const double fx = static_cast<double>(s.column) - column,
                   fy = static_cast<double>(s.row) - row;
      for (int k = 0; k < 4; ++k) {
        const double share = ((k & 1) != 0 ? fx : 1 - fx) * ((k & 2) != 0 ? fy : 1 - fy);
        double* sum = &sums_[static_cast<std::size_t>(
            ((row + (k >> 1)) * side_ + column + (k & 1)) * stride_)];
        const double weight = share / static_cast<double>(s.variance);
        for (int a = 0; a < terms_; ++a)
          *sum++ += weight * star.terms[a] * static_cast<double>(s.value);
        for (int a = 0; a < terms_; ++a) {
          for (int b = a; b < terms_; ++b) *sum++ += weight * star.terms[a] * star.terms[b];
        }
        *sum = std::max(*sum, static_cast<double>(s.prior));
      }
    }
  }
  /// Coefficients, one plane per term.
  [[nodiscard]] Planes solve() const {
    Planes planes(static_cast<std::size_t>(terms_),
                  std::vector<float>(static_cast<std::size_t>(side_ * side_)));
    Eigen::MatrixXd normal(terms_, terms_);
    Eigen::VectorXd right(terms_);
    for (int cell = 0; cell < side_ * side_; ++cell) {
      const double* sum = &sums_[static_cast<std::size_t>(cell * stride_)];
      for (int a = 0; a < terms_; ++a) right[a] = *sum++;
      for (int a = 0; a < terms_; ++a) {
        for (int b = a; b < terms_; ++b) normal(a, b) = normal(b, a) = *sum++;
      }
      if (normal(0, 0) <= 0 || *sum <= 0) continue;
      for (int a = 0; a < terms_; ++a) normal(a, a) += 1 / (*sum * *sum);
      const Eigen::VectorXd solution = normal.ldlt().solve(right);
      for (int a = 0; a < terms_; ++a)
        planes[static_cast<std::size_t>(a)][static_cast<std::size_t>(cell)] =
            static_cast<float>(solution[a]);
    }
    return planes;
  }

 private:
  int side_, terms_, stride_;
  std::vector<double> sums_;
};

/// Star `i` is left out of a trial fit, and judges it.
bool is_left_out(std::size_t i) { return i % 4 == 0; }

/// A second pass leaves out what the first cannot explain. `trial`: without the stars left out.
Planes fit_order(const std::vector<StarSamples>& stars, int side, int order, bool trial) {
  Planes planes;
  for (int pass = 0; pass < 2; ++pass) {
    Grid grid(side, term_count(order));
    for (std::size_t i = 0; i < stars.size(); ++i) {
      if (!trial || !is_left_out(i)) grid.add(stars[i], pass == 0 ? nullptr : &planes);
    }
    planes = grid.solve();
  }
  return planes;
}

/// Sum of the clipped squares of what the planes leave in the stars left out, in units of their
/// noise.
double left_over(const std::vector<StarSamples>& stars, int side, const Planes& planes) {
  double sum = 0;
  for (std::size_t i = 0; i < stars.size(); ++i) {
    if (!is_left_out(i)) continue;
    for (const Sample& s : stars[i].samples) {
      const double miss = static_cast<double>(s.value) - predict(planes, side, stars[i].terms, s);
      sum += std::min(miss * miss / static_cast<double>(s.variance), 25.0);
    }
  }
  return sum;
}

/// A star in one channel, and where it lies and how bright it is with the field's profile. Fits of
/// single stars differ in profile: what is left of them has no mean that the field's Moffat could
/// be mended with.
struct StackedStar {
  Eigen::VectorXd terms;  ///< of highest_order, at the star's place
  MoffatProfile profile;
  Eigen::ArrayXd x, y, values;  ///< of the pixels about it in which no other star shines
  struct Place {
    double x = 0, y = 0, flux = 0, sky = 0;
  } at;
};

/// Which of a star's pixels.
using Pixels = std::vector<Eigen::Index>;

Eigen::ArrayXd picked(const Eigen::ArrayXd& values, const Pixels& pixels) {
  Eigen::ArrayXd some(static_cast<Eigen::Index>(pixels.size()));
  for (Eigen::Index i = 0; i < some.size(); ++i)
    some[i] = values[pixels[static_cast<std::size_t>(i)]];
  return some;
}

/// Stars of one channel, stacked.
class Stack {
 public:
  Stack(ConstView frame, const StarCatalogue& catalogue, const PsfField& field, int channel,
        const std::vector<const Star*>& chosen, int reach)
      : reach_(reach),
        side_(grid_side(reach)),
        sigma_(std::max(
            1e-30, static_cast<double>(catalogue.sky[static_cast<std::size_t>(channel)].sigma))) {
    const Neighbourhood neighbourhood(catalogue, 4 * reach);
    for (const Star* star : chosen) {
      const StarFit& fit = star->fits[static_cast<std::size_t>(channel)];
      if (fit.psf.fwhm_px <= 0 || fit.flux <= 0) continue;
      const Psf psf = field.at(star->x, star->y, channel);
      StackedStar s{
          .terms = polynomial_terms(unit(static_cast<double>(star->x), catalogue.frame.width),
                                    unit(static_cast<double>(star->y), catalogue.frame.height),
                                    term_count(highest_order)),
          .profile = MoffatProfile(psf.fwhm_px, psf.e1, psf.e2, psf.beta),
          .x = {},
          .y = {},
          .values = {},
          .at = {fit.x, fit.y, fit.flux, fit.sky}};
      take_pixels(s, frame.channel(channel), *star, neighbourhood.around(*star));
      core_px_ = std::max(core_px_, 2 * static_cast<double>(psf.fwhm_px));
      stars_.push_back(std::move(s));
    }
  }
  [[nodiscard]] int side() const { return side_; }
  [[nodiscard]] std::size_t size() const { return stars_.size(); }

  /// Finds all stars again with what is now known of the PSF, and what is left of them beside the
  /// Moffat.
  [[nodiscard]] std::vector<StarSamples> samples(const Planes& planes) {
    std::vector<StarSamples> all;
    for (StackedStar& star : stars_) {
      const StackedStar::Place before = star.at;
      for (int round = 0; round < 2; ++round) {
        find(star, planes);
        level(star, planes);
      }
      const double moved = std::hypot(star.at.x - before.x, star.at.y - before.y);
      if (!(moved < 1 && star.at.flux > before.flux / 2 && star.at.flux < 2 * before.flux)) {
        star.at = before;
        continue;
      }
      all.push_back(left_of(star));
    }
    return all;
  }

 private:
  void take_pixels(StackedStar& s, ConstView frame, const Star& star,
                   const std::vector<const Star*>& others) const {
    const int x0 = static_cast<int>(std::lround(s.at.x)),
              y0 = static_cast<int>(std::lround(s.at.y));
    std::vector<double> columns, rows, values;
    for (int y = std::max(0, y0 - reach_); y <= std::min(frame.height() - 1, y0 + reach_); ++y) {
      for (int x = std::max(0, x0 - reach_); x <= std::min(frame.width() - 1, x0 + reach_); ++x) {
        const auto value = static_cast<double>(frame(0, y, x));
        if (std::hypot(x - s.at.x, y - s.at.y) > reach_ || !std::isfinite(value) || value == 0)
          continue;
        columns.push_back(x);
        rows.push_back(y);
        values.push_back(value);
      }
    }
    const auto count = static_cast<Eigen::Index>(values.size());
    const Eigen::Map<const Eigen::ArrayXd> x(columns.data(), count), y(rows.data(), count),
        all(values.data(), count);
    const Eigen::ArrayXd most =
        (0.15 * static_cast<double>(star.flux) * s.profile.pixels(x - s.at.x, y - s.at.y))
            .max(0.5 * sigma_);
    Eigen::Array<bool, Eigen::Dynamic, 1> theirs =
        Eigen::Array<bool, Eigen::Dynamic, 1>::Constant(count, false);
    for (const Star* other : others) {
      theirs = theirs || static_cast<double>(other->flux) *
                                 s.profile.pixels(x - static_cast<double>(other->x),
                                                  y - static_cast<double>(other->y)) >
                             most;
    }
    Pixels own;
    for (Eigen::Index i = 0; i < count; ++i) {
      if (!theirs[i]) own.push_back(i);
    }
    s.x = picked(x, own);
    s.y = picked(y, own);
    s.values = picked(all, own);
  }
  /// Pixels no further than this from a star's centre.
  [[nodiscard]] static Pixels within(const StackedStar& s, double from, double to) {
    Pixels list;
    for (Eigen::Index i = 0; i < s.x.size(); ++i) {
      const double away = std::hypot(s.x[i] - s.at.x, s.y[i] - s.at.y);
      if (away > from && away <= to) list.push_back(i);
    }
    return list;
  }
  [[nodiscard]] Eigen::ArrayXd beyond_moffat(const Planes& planes, const StackedStar& s,
                                             const Eigen::ArrayXd& dx,
                                             const Eigen::ArrayXd& dy) const {
    Eigen::ArrayXd light = Eigen::ArrayXd::Zero(dx.size());
    if (planes.empty()) return light;
    for (Eigen::Index i = 0; i < dx.size(); ++i)
      light[i] = predict(planes, side_, s.terms, grid_column(dx[i]), grid_column(dy[i]));
    return light;
  }
  [[nodiscard]] double grid_column(double px) const {
    return (side_ - 1) / 2.0 + oversampling * px;
  }
  /// Variance of a star's pixels in units of its flux: every star has faults of its own (colour,
  /// focus, a faint neighbour), 3 % of the profile.
  [[nodiscard]] Eigen::ArrayXd variance(const StackedStar& s, const Eigen::ArrayXd& light) const {
    return std::pow(sigma_ / s.at.flux, 2) + (0.03 * light).square() +
           std::pow(0.001 * s.profile.pixel(0, 0), 2);
  }
  /// Place and flux, from the core.
  void find(StackedStar& s, const Planes& planes) const {
    constexpr std::size_t fewest = 12;
    const auto core = within(s, -1, std::min(core_px_, static_cast<double>(reach_)));
    if (core.size() < fewest) return;
    const Eigen::ArrayXd dx = picked(s.x, core) - s.at.x, dy = picked(s.y, core) - s.at.y;
    const MoffatTerms terms = s.profile.terms(dx, dy);
    const Eigen::ArrayXd moffat = terms.col(moffat_value).array(),
                         weight = variance(s, moffat).rsqrt();
    Eigen::Matrix<double, Eigen::Dynamic, 3> design(dx.size(), 3);
    design.col(0) = weight * (moffat + beyond_moffat(planes, s, dx, dy));
    design.col(1) = weight * s.at.flux * terms.col(moffat_by_x).array();
    design.col(2) = weight * s.at.flux * terms.col(moffat_by_y).array();
    const Eigen::VectorXd right = (weight * (picked(s.values, core) - s.at.sky)).matrix();
    const Eigen::Vector3d solution =
        (design.transpose() * design).ldlt().solve(design.transpose() * right);
    if (planes.empty()) {
      s.at.flux = design.col(0).dot(right) / design.col(0).squaredNorm();
      return;
    }
    s.at.flux = solution[0];
    s.at.x += std::clamp(solution[1], -0.5, 0.5);
    s.at.y += std::clamp(solution[2], -0.5, 0.5);
  }
  /// The level about a star, of what is left of its pixels, where they end. A fitted sky has
  /// swallowed the wings that a Moffat does not have: stacked over it they came out dark, and an
  /// aperture of 4 FWHM held 1.02 of a star.
  void level(StackedStar& s, const Planes& planes) const {
    constexpr std::size_t fewest = 40;
    const auto outermost = within(s, outermost_share * reach_, reach_);
    if (outermost.size() < fewest) return;
    const Eigen::ArrayXd dx = picked(s.x, outermost) - s.at.x, dy = picked(s.y, outermost) - s.at.y;
    const Eigen::ArrayXf left =
        (picked(s.values, outermost) -
         s.at.flux * (s.profile.pixels(dx, dy) + beyond_moffat(planes, s, dx, dy)))
            .cast<float>();
    s.at.sky =
        static_cast<double>(median(std::span(left.data(), static_cast<std::size_t>(left.size()))));
  }
  [[nodiscard]] StarSamples left_of(const StackedStar& s) const {
    const Eigen::ArrayXd dx = s.x - s.at.x, dy = s.y - s.at.y;
    const Eigen::ArrayXd light = s.profile.pixels(dx, dy);
    const Eigen::ArrayXd value = (s.values - s.at.sky) / s.at.flux - light,
                         spread = variance(s, light),
                         prior = prior_of_profile * light + prior_of_peak * s.profile.pixel(0, 0);
    StarSamples out{.terms = s.terms, .samples = {}};
    for (Eigen::Index i = 0; i < dx.size(); ++i) {
      // a star that was moved may have pixels beyond the grid
      if (std::hypot(dx[i], dy[i]) > reach_) continue;
      out.samples.push_back({.column = static_cast<float>(grid_column(dx[i])),
                             .row = static_cast<float>(grid_column(dy[i])),
                             .value = static_cast<float>(value[i]),
                             .variance = static_cast<float>(spread[i]),
                             .prior = static_cast<float>(prior[i])});
    }
    return out;
  }

  int reach_, side_;
  double sigma_, core_px_ = 0;
  std::vector<StackedStar> stars_;
};

struct StackedChannel {
  Planes planes;
  int order = -1, stars = 0;
};

StackedChannel stack_channel(Stack stack) {
  constexpr int fewest_linear = 24, fewest_quadratic = 80;
  StackedChannel result;
  const int side = stack.side();
  const auto stars = stack.samples({});
  result.stars = static_cast<int>(stars.size());
  if (result.stars < fewest_stars) return result;
  const int highest = result.stars >= fewest_quadratic ? highest_order
                      : result.stars >= fewest_linear  ? 1
                                                       : 0;
  double best = left_over(stars, side, {});
  for (int order = 0; order <= highest; ++order) {
    const double left = left_over(stars, side, fit_order(stars, side, order, true));
    if (left < 0.999 * best) {
      best = left;
      result.order = order;
    }
  }
  if (result.order < 0) return result;
  result.planes = fit_order(stars, side, result.order, false);
  for (int round = 0; round < more_rounds; ++round)
    result.planes = fit_order(stack.samples(result.planes), side, result.order, false);
  return result;
}

std::vector<StackedChannel> stack_channels(ConstView frame, const StarCatalogue& catalogue,
                                           const PsfField& field,
                                           const std::vector<const Star*>& chosen, int reach,
                                           int threads) {
  std::vector<StackedChannel> channels(static_cast<std::size_t>(frame.channels()));
  parallel_for(frame.channels(), threads, [&](int channel) {
    channels[static_cast<std::size_t>(channel)] =
        stack_channel(Stack(frame, catalogue, field, channel, chosen, reach));
  });
  return channels;
}

/// Whether the residual near its end, to one side, in the middle of the frame or in a corner, is
/// light of which more lies farther out: the tail of a coma.
bool ends_in_a_tail(const std::vector<StackedChannel>& channels, int reach, const Psf& psf) {
  constexpr int sectors = 8;
  constexpr double least_of_peak = 0.005, from = 0.6, to = 0.9;
  const double peak = MoffatProfile(psf.fwhm_px, psf.e1, psf.e2, psf.beta).pixel(0, 0);
  const int side = grid_side(reach);
  const double centre = (side - 1) / 2.0;
  for (const StackedChannel& channel : channels) {
    for (const auto& [u, v] :
         {std::pair{0.0, 0.0}, {-0.8, -0.8}, {0.8, -0.8}, {-0.8, 0.8}, {0.8, 0.8}}) {
      const Eigen::VectorXd terms = polynomial_terms(u, v, term_count(highest_order));
      std::array<double, sectors> sums{}, counts{};
      for (int y = -reach; y <= reach; ++y) {
        for (int x = -reach; x <= reach; ++x) {
          const double share = std::hypot(x, y) / reach;
          if (share < from || share > to) continue;
          const double turn = 0.5 + std::atan2(y, x) / (2 * std::numbers::pi);
          const auto sector = static_cast<std::size_t>(turn * sectors) % sectors;
          sums[sector] += predict(channel.planes, side, terms, centre + oversampling * x,
                                  centre + oversampling * y);
          counts[sector] += 1;
        }
      }
      for (std::size_t i = 0; i < sectors; ++i) {
        if (sums[i] > least_of_peak * peak * counts[i]) return true;
      }
    }
  }
  return false;
}

}  // namespace

std::vector<float> EffectivePsf::residual(float x, float y, int channel, int side_px, float dx,
                                          float dy) const {
  std::vector<float> kernel(static_cast<std::size_t>(side_px * side_px));
  const auto& planes = channels_[static_cast<std::size_t>(channel)];
  if (planes.empty()) return kernel;
  const Eigen::VectorXd terms =
      polynomial_terms(unit(static_cast<double>(x), frame_.width),
                       unit(static_cast<double>(y), frame_.height), term_count(highest_order));
  std::vector<float> here(static_cast<std::size_t>(side_ * side_));
  for (std::size_t a = 0; a < planes.size(); ++a) {
    const auto factor = static_cast<float>(terms[static_cast<Eigen::Index>(a)]);
    for (std::size_t i = 0; i < here.size(); ++i) here[i] += factor * planes[a][i];
  }
  const double centre = (side_ - 1) / 2.0;
  for (int j = 0; j < side_px; ++j) {
    for (int i = 0; i < side_px; ++i) {
      const double px = i - side_px / 2 - static_cast<double>(dx),
                   py = j - side_px / 2 - static_cast<double>(dy);
      const double r = std::sqrt(px * px + py * py) / reach_px_;
      if (r >= 1) continue;
      const double fade =
          0.5 + 0.5 * std::cos(std::numbers::pi * std::clamp((r - 0.7) / 0.3, 0.0, 1.0));
      kernel[static_cast<std::size_t>(j * side_px + i)] = static_cast<float>(
          fade * interpolate(here, side_, centre + oversampling * px, centre + oversampling * py));
    }
  }
  return kernel;
}

std::shared_ptr<const EffectivePsf> measure_effective_psf(ConstView frame,
                                                          const StarCatalogue& catalogue,
                                                          int threads) {
  const auto chosen = bright_isolated_stars(catalogue, most_stars, least_snr);
  if (static_cast<int>(chosen.size()) < fewest_stars) return nullptr;
  const auto field = fit_psf_field(catalogue);
  if (!field) return nullptr;
  std::vector<float> widths;
  for (const Star* star : chosen) widths.push_back(star->fwhm_px);
  const float fwhm = median(widths);
  const auto reach_of = [&](int times_fwhm) {
    return std::clamp(static_cast<int>(std::ceil(static_cast<float>(times_fwhm) * fwhm)) + 5, 8,
                      28);
  };
  int reach = reach_of(3);
  auto stacked = stack_channels(frame, catalogue, *field, chosen, reach, threads);
  if (const int farther = reach_of(5);
      farther > reach && ends_in_a_tail(stacked, reach, field->mean_at(0, 0))) {
    reach = farther;
    stacked = stack_channels(frame, catalogue, *field, chosen, reach, threads);
  }
  auto result = std::make_shared<EffectivePsf>();
  result->frame_ = catalogue.frame;
  result->reach_px_ = reach;
  result->side_ = grid_side(reach);
  for (StackedChannel& channel : stacked) {
    result->order_ = std::max(result->order_, channel.order);
    result->star_count_ = std::max(result->star_count_, channel.stars);
    result->channels_.push_back(std::move(channel.planes));
  }
  return result->order_ < 0 ? nullptr : result;
}

}  // namespace limpid
