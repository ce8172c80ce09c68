#include "restore/star_stamp.h"

#include <algorithm>
#include <cmath>

#include <Eigen/Dense>

#include <limpid/tiles.h>

#include "core/fft.h"
#include "core/lanes.h"
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
  Image result(1, {size, size});
  const auto along_x = interpolation(-dx), along_y = interpolation(-dy);
  const auto around = [side](int at) { return at < 0 ? at + side : at < side ? at : at - side; };
  const auto width = static_cast<std::size_t>(size);
  std::vector<double> line(width + 6), rows(width * (width + 6));
  for (int y = 0; y < size + 6; ++y) {
    const auto from = image.row(0, around(corner + y - 3));
    for (int x = 0; x < size + 6; ++x)
      line[static_cast<std::size_t>(x)] =
          static_cast<double>(from[static_cast<std::size_t>(around(corner + x - 3))]);
    double* row = &rows[static_cast<std::size_t>(y) * width];
    for (std::size_t x = 0; x < width; ++x) {
      double sum = 0;
      for (std::size_t i = 0; i < 7; ++i) sum += along_x[i] * line[x + i];
      row[x] = sum;
    }
  }
  for (int y = 0; y < size; ++y) {
    const double* row = &rows[static_cast<std::size_t>(y) * width];
    const auto out = result.view().row(0, y);
    for (std::size_t x = 0; x < width; ++x) {
      double sum = 0;
      for (std::size_t i = 0; i < 7; ++i) sum += along_y[i] * row[i * width + x];
      out[x] = static_cast<float>(sum);
    }
  }
  return result;
}

/// What one pixel says: of the unknowns, then of both right sides; the rest is zero.
constexpr std::size_t unknowns = term_count + 1, row_blocks = 3;
using Row = std::array<Lanes, row_blocks>;
static_assert(unknowns + 2 <= row_blocks * lane_count);

/// Adds the products of a row's block `block` with all that lie in it or behind it.
template <std::size_t block>
void add_products(std::span<const Row> rows, std::span<const double> weights,
                  Eigen::Matrix<double, unknowns, row_blocks * lane_count>& sums) {
  constexpr std::size_t first = block * lane_count, behind = row_blocks - block,
                        count = std::min(lane_count, unknowns - first);
  std::array<std::array<Lanes, behind>, count> own{};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t k = 0; k < count; ++k) {
      const double factor = weights[i] * rows[i][block][k];
      for (std::size_t b = 0; b < behind; ++b) own[k][b] += factor * rows[i][block + b];
    }
  }
  for (std::size_t k = 0; k < count; ++k) {
    for (std::size_t b = 0; b < behind; ++b) {
      for (std::size_t lane = 0; lane < lane_count; ++lane) {
        sums(static_cast<Eigen::Index>(first + k),
             static_cast<Eigen::Index>((block + b) * lane_count + lane)) = own[k][b][lane];
      }
    }
  }
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
  const ConstView basis = optics.measured_terms(channel);
  const int first = stamp.side() / 2 - half, size = 2 * half + 1;
  const Image star = dx == 0 && dy == 0 ? copy(basis.channel(0).crop({first, first, size, size}))
                                        : moved(basis.channel(0), dx, dy, half);
  Explanation e;
  const auto over = [&](int x, int y) {
    return static_cast<double>(stamp.recorded(channel, x, y) - around.level);
  };
  double all = 0, of_shape = 0, squares = 0, seen = 0, seen_of_shape = 0;
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const auto w = static_cast<double>(stamp.weight(first + x, first + y)),
                 shape = static_cast<double>(star.view()(0, y, x));
      const double light = over(first + x, first + y);
      all += w;
      of_shape += w * shape;
      squares += w * shape * shape;
      seen += w * light;
      seen_of_shape += w * light * shape;
      if (w > 0) e.peak = std::max(e.peak, light);
    }
  }
  // under the star it may be as much brighter or darker as places around it are: the crest of a
  // galaxy is no star's light
  const auto noise = static_cast<double>(around.noise);
  all += std::pow(noise / std::max(noise, static_cast<double>(around.scatter)), 2);
  Eigen::Matrix2d light_and_level;
  light_and_level << squares, of_shape, of_shape, all;
  e.light = light_and_level.ldlt().solve(Eigen::Vector2d(seen_of_shape, seen))[0];
  if (!(e.light > 0)) return std::nullopt;
  std::vector<Row> rows;
  std::vector<double> weights;
  for (int y = first; y < first + size; ++y) {
    for (int x = first; x < first + size; ++x) {
      const auto w = static_cast<double>(stamp.weight(x, y));
      if (w == 0) continue;
      const double light = over(x, y), unsure = psf_error * std::max(0.0, light);
      weights.push_back(w / (noise * noise + unsure * unsure));
      const auto term = [&](int k) { return static_cast<double>(basis(k, y, x)); };
      const double own =
          light - e.light * static_cast<double>(star.view()(0, y - first, x - first));
      rows.push_back({Lanes{term(0), term(1), term(2), term(3)},
                      Lanes{term(4), term(5), term(6), term(7)},
                      Lanes{1, static_cast<double>(difference(0, y, x)), own, 0}});
    }
  }
  Eigen::Matrix<double, unknowns, row_blocks * lane_count> sums;
  sums.setZero();
  add_products<0>(rows, weights, sums);
  add_products<1>(rows, weights, sums);
  add_products<2>(rows, weights, sums);
  using Vector = Eigen::Matrix<double, unknowns, 1>;
  Eigen::Matrix<double, unknowns, unknowns> matrix = sums.leftCols<unknowns>();
  const Vector right = sums.col(unknowns), right_own = sums.col(unknowns + 1);
  const double error = expected_error * e.light, s = optics.sigma_px();
  const Terms prior{1, s, s, s * s, s * s, s * s, s * s * s / 3, s * s * s / 3};
  for (int k = 0; k < term_count; ++k) {
    const double scale = error * prior[static_cast<std::size_t>(k)];
    matrix(k, k) += 1 / (scale * scale);
  }
  const auto solver = matrix.selfadjointView<Eigen::Upper>().ldlt();
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
