// What stars show beyond the Moffat profile: residuals of many stars, stacked on a fine grid.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <Eigen/Dense>

#include <limpid/stars.h>

#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/moffat.h"
#include "measure/neighbours.h"

namespace limpid {
namespace {

constexpr int oversampling = 2;
constexpr int max_terms = 6;
constexpr std::size_t most_stars = 200;
constexpr float least_snr = 40;
/// Prior of a residual: this share of the profile there, plus this share of its peak.
constexpr double prior_of_profile = 0.15, prior_of_peak = 0.003;

int term_count(int order) { return (order + 1) * (order + 2) / 2; }

using Terms = std::array<double, max_terms>;
Terms terms_at(double u, double v) { return {1, u, v, u * u, u * v, v * v}; }

/// One pixel of one star: where on the grid it falls, and by how much it misses the Moffat.
struct Sample {
  float column, row;             ///< grid coordinates
  float value, variance, prior;  ///< as shares of the star's flux; prior is one sigma
};
struct StarSamples {
  Terms terms{};
  std::vector<Sample> samples;
};

/// Accumulates weighted normal equations, cell by cell, and solves them.
class Grid {
 public:
  Grid(int side, int terms)
      : side_(side),
        terms_(terms),
        stride_(terms + terms * (terms + 1) / 2 + 1),
        sums_(static_cast<std::size_t>(side * side * stride_)) {}
  void add(const StarSamples& star, const std::vector<std::vector<float>>* clip_against) {
    for (const Sample& s : star.samples) {
      if (clip_against != nullptr) {
        const double miss = static_cast<double>(s.value) - predict(*clip_against, star.terms, s);
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
          *sum++ += weight * star.terms[static_cast<std::size_t>(a)] * static_cast<double>(s.value);
        for (int a = 0; a < terms_; ++a) {
          for (int b = a; b < terms_; ++b)
            *sum++ += weight * star.terms[static_cast<std::size_t>(a)] *
                      star.terms[static_cast<std::size_t>(b)];
        }
        *sum = std::max(*sum, static_cast<double>(s.prior));
      }
    }
  }
  /// Coefficients, one plane per term.
  [[nodiscard]] std::vector<std::vector<float>> solve() const {
    std::vector<std::vector<float>> planes(
        static_cast<std::size_t>(terms_),
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
  static double interpolate(const std::vector<float>& plane, int side, double column, double row) {
    const int x = static_cast<int>(column), y = static_cast<int>(row);
    const double fx = column - x, fy = row - y;
    const float* at = &plane[static_cast<std::size_t>(y * side + x)];
    return (1 - fy) * ((1 - fx) * static_cast<double>(at[0]) + fx * static_cast<double>(at[1])) +
           fy * ((1 - fx) * static_cast<double>(at[side]) + fx * static_cast<double>(at[side + 1]));
  }
  [[nodiscard]] double predict(const std::vector<std::vector<float>>& planes, const Terms& terms,
                               const Sample& s) const {
    double value = 0;
    for (std::size_t a = 0; a < planes.size(); ++a) {
      value += terms[a] * interpolate(planes[a], side_, static_cast<double>(s.column),
                                      static_cast<double>(s.row));
    }
    return value;
  }

 private:
  int side_, terms_, stride_;
  std::vector<double> sums_;
};

double unit(double position, int length) {
  return length <= 1 ? 0 : std::clamp(2 * position / (length - 1) - 1, -1.0, 1.0);
}

struct Fitted {
  int order = -1;
  std::vector<std::vector<float>> planes;
};

Fitted fit_order(const std::vector<StarSamples>& stars, int side, int order, int leave_out) {
  Fitted result{order, {}};
  for (int pass = 0; pass < 2; ++pass) {
    Grid grid(side, term_count(order));
    for (std::size_t i = 0; i < stars.size(); ++i) {
      if (leave_out > 0 && i % 4 == static_cast<std::size_t>(leave_out - 1)) continue;
      grid.add(stars[i], pass == 0 ? nullptr : &result.planes);
    }
    result.planes = grid.solve();
  }
  return result;
}

/// Mean clipped square of what is left in the stars that took no part, in units of their noise.
double left_over(const std::vector<StarSamples>& stars, int side, const Fitted* fitted) {
  double sum = 0;
  const Grid reader(side, 1);
  for (std::size_t i = 0; i < stars.size(); i += 4) {
    for (const Sample& s : stars[i].samples) {
      const double miss =
          static_cast<double>(s.value) -
          (fitted == nullptr ? 0 : reader.predict(fitted->planes, stars[i].terms, s));
      sum += std::min(miss * miss / static_cast<double>(s.variance), 25.0);
    }
  }
  return sum;
}

}  // namespace

std::vector<float> EffectivePsf::residual(float x, float y, int channel, int side_px, float dx,
                                          float dy) const {
  std::vector<float> kernel(static_cast<std::size_t>(side_px * side_px));
  const auto& planes = channels_[static_cast<std::size_t>(channel)];
  if (planes.empty()) return kernel;
  const Terms terms = terms_at(unit(static_cast<double>(x), frame_.width),
                               unit(static_cast<double>(y), frame_.height));
  std::vector<float> here(static_cast<std::size_t>(side_ * side_));
  for (std::size_t a = 0; a < planes.size(); ++a) {
    const auto factor = static_cast<float>(terms[a]);
    for (std::size_t i = 0; i < here.size(); ++i) here[i] += factor * planes[a][i];
  }
  const double centre = (side_ - 1) / 2.0;
  for (int j = 0; j < side_px; ++j) {
    for (int i = 0; i < side_px; ++i) {
      const double px = i - side_px / 2 - static_cast<double>(dx),
                   py = j - side_px / 2 - static_cast<double>(dy);
      const double r = std::hypot(px, py) / reach_px_;
      if (r >= 1) continue;
      const double fade =
          0.5 + 0.5 * std::cos(std::numbers::pi * std::clamp((r - 0.7) / 0.3, 0.0, 1.0));
      kernel[static_cast<std::size_t>(j * side_px + i)] =
          static_cast<float>(fade * Grid::interpolate(here, side_, centre + oversampling * px,
                                                      centre + oversampling * py));
    }
  }
  return kernel;
}

std::shared_ptr<const EffectivePsf> measure_effective_psf(ConstView frame,
                                                          const StarCatalogue& catalogue,
                                                          int threads) {
  constexpr int fewest_stars = 8, fewest_linear = 24, fewest_quadratic = 80;
  const auto chosen = bright_isolated_stars(catalogue, most_stars, least_snr);
  if (static_cast<int>(chosen.size()) < fewest_stars) return nullptr;
  std::vector<float> widths;
  for (const Star* star : chosen) widths.push_back(star->fwhm_px);
  const float fwhm = median(widths);
  auto result = std::make_shared<EffectivePsf>();
  result->frame_ = catalogue.frame;
  result->reach_px_ = std::clamp(static_cast<int>(std::ceil(3 * fwhm)) + 5, 8, 28);
  const int reach = result->reach_px_, side = 2 * oversampling * (reach + 1) + 1;
  result->side_ = side;
  const Neighbourhood neighbourhood(catalogue, 4 * reach);

  result->channels_.resize(static_cast<std::size_t>(frame.channels()));
  std::vector<int> orders(result->channels_.size(), -1), counts(result->channels_.size());
  parallel_for(frame.channels(), threads, [&](int channel) {
    const auto c = static_cast<std::size_t>(channel);
    const double sigma = std::max(1e-30, static_cast<double>(catalogue.sky[c].sigma));
    std::vector<StarSamples> stars(chosen.size());
    for (std::size_t index = 0; index < chosen.size(); ++index) {
      const Star& star = *chosen[index];
      const StarFit& fit = star.fits[c];
      if (fit.psf.fwhm_px <= 0 || fit.flux <= 0) continue;
      StarSamples& out = stars[index];
      out.terms = terms_at(unit(static_cast<double>(star.x), catalogue.frame.width),
                           unit(static_cast<double>(star.y), catalogue.frame.height));
      const MoffatProfile profile(fit.psf.fwhm_px, fit.psf.e1, fit.psf.e2, fit.psf.beta);
      const double peak = profile.pixel(0, 0), flux = fit.flux;
      const auto others = neighbourhood.around(star);
      const int x0 = static_cast<int>(std::lround(fit.x)),
                y0 = static_cast<int>(std::lround(fit.y));
      for (int y = std::max(0, y0 - reach); y <= std::min(frame.height() - 1, y0 + reach); ++y) {
        for (int x = std::max(0, x0 - reach); x <= std::min(frame.width() - 1, x0 + reach); ++x) {
          const double px = x - static_cast<double>(fit.x), py = y - static_cast<double>(fit.y);
          if (std::hypot(px, py) > reach) continue;
          const double value = frame(channel, y, x);
          if (!std::isfinite(value) || value == 0) continue;
          const double light = profile.pixel(px, py);
          bool theirs = false;
          for (const Star* other : others) {
            const double own_share = static_cast<double>(star.flux) * light;
            const double their_share =
                static_cast<double>(other->flux) *
                profile.pixel(x - static_cast<double>(other->x), y - static_cast<double>(other->y));
            theirs = theirs || their_share > std::max(0.15 * own_share, 0.5 * sigma);
          }
          if (theirs) continue;
          Sample s{};
          s.column = static_cast<float>((side - 1) / 2.0 + oversampling * px);
          s.row = static_cast<float>((side - 1) / 2.0 + oversampling * py);
          s.value = static_cast<float>((value - static_cast<double>(fit.sky)) / flux - light);
          // every star has faults of its own (colour, focus, a faint neighbour): 3 % of the profile
          s.variance = static_cast<float>(std::pow(sigma / flux, 2) + std::pow(0.03 * light, 2) +
                                          std::pow(0.001 * peak, 2));
          s.prior = static_cast<float>(prior_of_profile * light + prior_of_peak * peak);
          out.samples.push_back(s);
        }
      }
    }
    std::erase_if(stars, [](const StarSamples& s) { return s.samples.empty(); });
    if (static_cast<int>(stars.size()) >= fewest_stars) {
      const int highest = static_cast<int>(stars.size()) >= fewest_quadratic ? 2
                          : static_cast<int>(stars.size()) >= fewest_linear  ? 1
                                                                             : 0;
      double best = left_over(stars, side, nullptr);
      int order = -1;
      for (int o = 0; o <= highest; ++o) {
        const Fitted trial = fit_order(stars, side, o, 1);
        if (const double left = left_over(stars, side, &trial); left < 0.999 * best) {
          best = left;
          order = o;
        }
      }
      if (order >= 0) result->channels_[c] = fit_order(stars, side, order, 0).planes;
      orders[c] = order;
    }
    counts[c] = static_cast<int>(stars.size());
  });
  result->order_ = *std::ranges::max_element(orders);
  result->star_count_ = *std::ranges::max_element(counts);
  return result->order_ < 0 ? nullptr : result;
}

}  // namespace limpid
