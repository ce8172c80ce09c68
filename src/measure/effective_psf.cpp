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
constexpr int highest_order = 2;
constexpr std::size_t most_stars = 200;
constexpr float least_snr = 40;
/// From this share of the reach on pixels tell the level about a star.
constexpr double outermost_share = 0.85;
/// Prior of a residual: this share of the profile there, plus this share of its peak.
constexpr double prior_of_profile = 0.15, prior_of_peak = 0.003;

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

std::size_t index(int column, int row, int side) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(side) +
         static_cast<std::size_t>(column);
}

/// Bilinear, on a plane of side * side cells.
double interpolate(const std::vector<float>& plane, int side, double column, double row) {
  const int x = static_cast<int>(column), y = static_cast<int>(row);
  const double fx = column - x, fy = row - y;
  const float* at = &plane[index(x, y, side)];
  return (1 - fy) * ((1 - fx) * static_cast<double>(at[0]) + fx * static_cast<double>(at[1])) +
         fy * ((1 - fx) * static_cast<double>(at[side]) + fx * static_cast<double>(at[side + 1]));
}

/// What the planes say of a sample's residual; 0 without planes.
double predict(const Planes& planes, int side, const Eigen::VectorXd& terms, const Sample& s) {
  double value = 0;
  for (std::size_t a = 0; a < planes.size(); ++a) {
    value +=
        terms[static_cast<Eigen::Index>(a)] *
        interpolate(planes[a], side, static_cast<double>(s.column), static_cast<double>(s.row));
  }
  return value;
}

/// The level about a star, of what is left of its pixels after the fit, where its samples end. A
/// fitted sky has swallowed the wings that a Moffat does not have: stacked over it they came out
/// dark, and an aperture of 4 FWHM held 1.02 of a star.
std::optional<float> level_around(std::vector<float> outermost) {
  constexpr std::size_t fewest = 40;
  if (outermost.size() < fewest) return std::nullopt;
  return median_in_place(outermost);
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
        double* sum = &sums_[index(column + (k & 1), row + (k >> 1), side_) *
                             static_cast<std::size_t>(stride_)];
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
      const double* sum =
          &sums_[static_cast<std::size_t>(cell) * static_cast<std::size_t>(stride_)];
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

/// Where a grid begins and how far it goes, px and cells.
struct GridSize {
  int reach_px, side;
};

/// What one channel of a star shows beyond its fit; no samples where it has none.
StarSamples samples_of(ConstView frame, int channel, const Star& star,
                       const std::vector<const Star*>& others, double sigma, GridSize grid) {
  const StarFit& fit = star.fits[static_cast<std::size_t>(channel)];
  StarSamples out;
  if (fit.psf.fwhm_px <= 0 || fit.flux <= 0) return out;
  const auto [reach, side] = grid;
  out.terms = polynomial_terms(unit(static_cast<double>(star.x), frame.width()),
                               unit(static_cast<double>(star.y), frame.height()),
                               term_count(highest_order));
  const MoffatProfile profile(fit.psf.fwhm_px, fit.psf.e1, fit.psf.e2, fit.psf.beta);
  const double peak = profile.pixel(0, 0), flux = fit.flux;
  std::vector<float> outermost;
  const int x0 = static_cast<int>(std::lround(fit.x)), y0 = static_cast<int>(std::lround(fit.y));
  std::vector<double> columns, rows, values;
  for (int y = std::max(0, y0 - reach); y <= std::min(frame.height() - 1, y0 + reach); ++y) {
    for (int x = std::max(0, x0 - reach); x <= std::min(frame.width() - 1, x0 + reach); ++x) {
      const double value = frame(channel, y, x);
      if (std::hypot(x - static_cast<double>(fit.x), y - static_cast<double>(fit.y)) > reach ||
          !std::isfinite(value) || value == 0)
        continue;
      columns.push_back(x);
      rows.push_back(y);
      values.push_back(value);
    }
  }
  const auto count = static_cast<Eigen::Index>(values.size());
  const Eigen::Map<const Eigen::ArrayXd> x(columns.data(), count), y(rows.data(), count);
  const auto light_of = [&](float at_x, float at_y) {
    return profile.pixels(x - static_cast<double>(at_x), y - static_cast<double>(at_y));
  };
  const Eigen::ArrayXd light = light_of(fit.x, fit.y);
  const Eigen::ArrayXd most = (0.15 * static_cast<double>(star.flux) * light).max(0.5 * sigma);
  Eigen::Array<bool, Eigen::Dynamic, 1> theirs =
      Eigen::Array<bool, Eigen::Dynamic, 1>::Constant(count, false);
  for (const Star* other : others)
    theirs = theirs || static_cast<double>(other->flux) * light_of(other->x, other->y) > most;
  for (Eigen::Index i = 0; i < count; ++i) {
    if (theirs[i]) continue;
    const double px = x[i] - static_cast<double>(fit.x), py = y[i] - static_cast<double>(fit.y);
    Sample s{};
    s.column = static_cast<float>((side - 1) / 2.0 + oversampling * px);
    s.row = static_cast<float>((side - 1) / 2.0 + oversampling * py);
    s.value = static_cast<float>(
        (values[static_cast<std::size_t>(i)] - static_cast<double>(fit.sky)) / flux - light[i]);
    // every star has faults of its own (colour, focus, a faint neighbour): 3 % of the profile
    s.variance = static_cast<float>(std::pow(sigma / flux, 2) + std::pow(0.03 * light[i], 2) +
                                    std::pow(0.001 * peak, 2));
    s.prior = static_cast<float>(prior_of_profile * light[i] + prior_of_peak * peak);
    if (std::hypot(px, py) > outermost_share * reach) outermost.push_back(s.value);
    out.samples.push_back(s);
  }
  if (const auto level = level_around(std::move(outermost))) {
    for (Sample& s : out.samples) s.value -= *level;
  }
  return out;
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
  const int middle = side_px / 2;
  for (int j = 0; j < side_px; ++j) {
    for (int i = 0; i < side_px; ++i) {
      const double px = i - middle - static_cast<double>(dx),
                   py = j - middle - static_cast<double>(dy);
      const double r = std::sqrt(px * px + py * py) / reach_px_;
      if (r >= 1) continue;
      const double fade = r <= 0.7 ? 1 : 0.5 + 0.5 * std::cos(std::numbers::pi * (r - 0.7) / 0.3);
      kernel[index(i, j, side_px)] = static_cast<float>(
          fade * interpolate(here, side_, centre + oversampling * px, centre + oversampling * py));
    }
  }
  return kernel;
}

std::shared_ptr<const EffectivePsf> measure_effective_psf(ConstView frame,
                                                          const StarCatalogue& catalogue,
                                                          int threads) {
  constexpr std::size_t fewest_stars = 8, fewest_linear = 24, fewest_quadratic = 80;
  const auto chosen = bright_isolated_stars(catalogue, most_stars, least_snr);
  if (chosen.size() < fewest_stars) return nullptr;
  std::vector<float> widths;
  widths.reserve(chosen.size());
  for (const Star* star : chosen) widths.push_back(star->fwhm_px);
  const float fwhm = median(widths);
  auto result = std::make_shared<EffectivePsf>();
  result->frame_ = catalogue.frame;
  result->reach_px_ = std::clamp(static_cast<int>(std::ceil(3 * fwhm)) + 5, 8, 28);
  const int reach = result->reach_px_, side = 2 * oversampling * (reach + 1) + 1;
  result->side_ = side;
  const Neighbourhood neighbourhood(catalogue, 4 * reach);

  const auto channels = static_cast<std::size_t>(frame.channels()), star_count = chosen.size();
  std::vector<std::vector<StarSamples>> samples(channels, std::vector<StarSamples>(star_count));
  parallel_for(static_cast<int>(channels * star_count), threads, [&](int i) {
    const std::size_t c = static_cast<std::size_t>(i) / star_count,
                      at = static_cast<std::size_t>(i) % star_count;
    samples[c][at] =
        samples_of(frame, static_cast<int>(c), *chosen[at], neighbourhood.around(*chosen[at]),
                   std::max(1e-30, static_cast<double>(catalogue.sky[c].sigma)), {reach, side});
  });
  // without an order first, what is left over when nothing is taken from the stars
  constexpr std::size_t trials = highest_order + 2;
  std::vector<std::array<double, trials>> left(channels);
  for (auto& stars : samples)
    std::erase_if(stars, [](const StarSamples& s) { return s.samples.empty(); });
  const auto highest_for = [](std::size_t count) {
    return count < fewest_stars       ? -1
           : count < fewest_linear    ? 0
           : count < fewest_quadratic ? 1
                                      : highest_order;
  };
  parallel_for(static_cast<int>(channels * trials), threads, [&](int i) {
    const std::size_t c = static_cast<std::size_t>(i) / trials,
                      trial = static_cast<std::size_t>(i) % trials;
    const auto& stars = samples[c];
    const int order = static_cast<int>(trial) - 1;
    if (order <= highest_for(stars.size())) {
      left[c][trial] =
          left_over(stars, side, order < 0 ? Planes() : fit_order(stars, side, order, true));
    }
  });
  result->channels_.resize(channels);
  std::vector<int> orders(channels, -1);
  parallel_for(frame.channels(), threads, [&](int channel) {
    const auto c = static_cast<std::size_t>(channel);
    double best = left[c][0];
    for (int order = 0; order <= highest_for(samples[c].size()); ++order) {
      const double own = left[c][static_cast<std::size_t>(order) + 1];
      if (own >= 0.999 * best) continue;
      best = own;
      orders[c] = order;
    }
    if (orders[c] >= 0) result->channels_[c] = fit_order(samples[c], side, orders[c], false);
  });
  result->order_ = *std::ranges::max_element(orders);
  for (const auto& stars : samples)
    result->star_count_ = std::max(result->star_count_, static_cast<int>(stars.size()));
  return result->order_ < 0 ? nullptr : result;
}

}  // namespace limpid
