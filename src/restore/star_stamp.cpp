#include "restore/star_stamp.h"

#include <algorithm>
#include <cmath>

#include <Eigen/Dense>

#include <limpid/tiles.h>

#include "core/fft.h"
#include "core/statistics.h"
#include "restore/geometry.h"
#include "restore/reblur.h"

namespace limpid {
namespace {

constexpr double expected_error = 0.2;     // of the network, as a share of a star's light per term
constexpr double psf_error = 0.003;        // of a pixel's light
constexpr std::size_t fewest_around = 50;  // pixels that tell level and noise

/// Weights of seven neighbouring pixels for what lies `by` px beside the middle one, |by| <= 0.5
/// (Lagrange's polynomial: PSFs that are sampled well enough to be moved).
std::array<double, 7> interpolation(double by) {
  std::array<double, 7> weights{};
  for (int i = -3; i <= 3; ++i) {
    double weight = 1;
    for (int j = -3; j <= 3; ++j)
      if (j != i) weight *= (by - j) / (i - j);
    weights[static_cast<std::size_t>(i + 3)] = weight;
  }
  return weights;
}

/// The image moved by (dx, dy), its middle square of 2 half + 1 px.
Image moved(ConstView image, double dx, double dy, int half) {
  const int size = 2 * half + 1, corner = image.width() / 2 - half, side = image.width();
  Image rows(1, {size, size + 6}), result(1, {size, size});
  const auto along_x = interpolation(-dx), along_y = interpolation(-dy);
  const auto at = [&](int x, int y) {
    return static_cast<double>(image(0, (y + side) % side, (x + side) % side));
  };
  for (int y = 0; y < size + 6; ++y) {
    for (int x = 0; x < size; ++x) {
      double sum = 0;
      for (int i = 0; i < 7; ++i)
        sum += along_x[static_cast<std::size_t>(i)] * at(corner + x + i - 3, corner + y - 3);
      rows.view()(0, y, x) = static_cast<float>(sum);
    }
  }
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      double sum = 0;
      for (int i = 0; i < 7; ++i)
        sum += along_y[static_cast<std::size_t>(i)] * static_cast<double>(rows.view()(0, y + i, x));
      result.view()(0, y, x) = static_cast<float>(sum);
    }
  }
  return result;
}

}  // namespace

Stamp::Stamp(const RestoredPart& known, ConstView after, const Star& star, int side,
             float window_px)
    : side_(side) {
  const Rect middle = square_around(star, 0);
  const Rect square{middle.x - side_ / 2, middle.y - side_ / 2, side_, side_};
  made_ = extract_mirrored(after, {square.x - known.part.x, square.y - known.part.y, side_, side_});
  recorded_ = extract_mirrored(known.before, square);
  away_.resize(square.size().pixels());
  window_.resize(away_.size());
  for (int y = 0; y < side_; ++y) {
    for (int x = 0; x < side_; ++x) away_[index(x, y)] = distance(star, square.x + x, square.y + y);
  }
  std::ranges::transform(away_, window_.begin(),
                         [&](float away) { return falling(away, window_px / 2, window_px); });
}

Image Stamp::difference(const Optics& optics, int channel) const {
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

std::optional<Stamp::Surroundings> Stamp::surroundings(ConstView difference, int channel,
                                                       float reach_px) const {
  std::vector<float> differences, levels;
  for (int y = 2; y < side_ - 2; ++y) {
    // every second one, as on a chessboard: they tell the noise to a hundredth
    for (int x = 2 + y % 2; x < side_ - 2; x += 2) {
      if (away_[index(x, y)] < reach_px) continue;
      differences.push_back(difference(0, y, x));
      levels.push_back(recorded(channel, x, y));
    }
  }
  if (levels.size() < fewest_around) return std::nullopt;
  Surroundings s;
  const Spread spread = robust_spread(levels);
  s.level = spread.median;
  s.scatter = spread.sigma;
  s.darkest = quantile(levels, 0.16F);
  s.noise = robust_spread(differences).sigma;
  if (!(s.noise > 0)) return std::nullopt;
  return s;
}

std::optional<Explanation> explain(const Stamp& stamp, ConstView difference, const Optics& optics,
                                   int channel, const Stamp::Surroundings& around, double dx,
                                   double dy, int half) {
  constexpr int unknowns = term_count + 1;
  using Vector = Eigen::Matrix<double, unknowns, 1>;
  Eigen::Matrix<double, unknowns, unknowns> matrix;
  Vector right, right_own, row;
  matrix.setZero();
  right.setZero();
  right_own.setZero();
  const ConstView basis = optics.measured_terms(channel);
  const int first = stamp.side() / 2 - half, size = 2 * half + 1;
  const Image star = dx == 0 && dy == 0 ? copy(basis.channel(0).crop({first, first, size, size}))
                                        : moved(basis.channel(0), dx, dy, half);
  Explanation e;
  Eigen::Matrix2d light_and_level = Eigen::Matrix2d::Zero();
  Eigen::Vector2d seen = Eigen::Vector2d::Zero();
  const auto over = [&](int x, int y) {
    return static_cast<double>(stamp.recorded(channel, x, y) - around.level);
  };
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const auto w = static_cast<double>(stamp.weight(first + x, first + y)),
                 shape = static_cast<double>(star.view()(0, y, x));
      const Eigen::Vector2d both(shape, 1);
      light_and_level += w * both * both.transpose();
      seen += w * over(first + x, first + y) * both;
      if (w > 0) e.peak = std::max(e.peak, over(first + x, first + y));
    }
  }
  // under the star it may be as much brighter or darker as places around it are: the crest of a
  // galaxy is no star's light
  const auto noise = static_cast<double>(around.noise);
  light_and_level(1, 1) +=
      std::pow(noise / std::max(noise, static_cast<double>(around.scatter)), 2);
  e.light = light_and_level.ldlt().solve(seen)[0];
  if (!(e.light > 0)) return std::nullopt;
  for (int y = first; y < first + size; ++y) {
    for (int x = first; x < first + size; ++x) {
      const auto w = static_cast<double>(stamp.weight(x, y));
      if (w == 0) continue;
      const double unsure = psf_error * std::max(0.0, over(x, y));
      const double weight = w / (noise * noise + unsure * unsure);
      for (int k = 0; k < term_count; ++k) row[k] = static_cast<double>(basis(k, y, x));
      row[term_count] = 1;
      // column by column: products of whole vectors are unrolled, updates of half a matrix are not
      for (int k = 0; k < unknowns; ++k) matrix.col(k) += weight * row[k] * row;
      right += weight * static_cast<double>(difference(0, y, x)) * row;
      right_own +=
          weight *
          (over(x, y) - e.light * static_cast<double>(star.view()(0, y - first, x - first))) * row;
    }
  }
  const double error = expected_error * e.light, s = optics.sigma_px();
  const Terms prior{1, s, s, s * s, s * s, s * s, s * s * s / 3, s * s * s / 3};
  for (int k = 0; k < term_count; ++k) {
    const double scale = error * prior[static_cast<std::size_t>(k)];
    matrix(k, k) += 1 / (scale * scale);
  }
  const auto solver = matrix.selfadjointView<Eigen::Lower>().ldlt();
  const Vector found = solver.solve(right), own = solver.solve(right_own);
  const Eigen::Matrix<double, unknowns, unknowns> covariance =
      solver.solve(Eigen::Matrix<double, unknowns, unknowns>::Identity());
  const double rougher = std::max(1.0, static_cast<double>(around.scatter) / noise);
  for (int k = 0; k < term_count; ++k) {
    const auto at = static_cast<std::size_t>(k);
    e.difference[at] = found[k];
    e.own[at] = own[k];
    e.own_error[at] = rougher * std::sqrt(covariance(k, k));
  }
  e.level = found[term_count];
  return e;
}

Terms without_light(Terms terms, double dx, double dy) {
  const double light = terms[0];
  const std::array<double, 6> taylor{1, -dx, -dy, dx * dx / 2, dx * dy, dy * dy / 2};
  for (std::size_t k = 0; k < taylor.size(); ++k) terms[k] -= light * taylor[k];
  return terms;
}

}  // namespace limpid
