#include "multiframe/match_skies.h"

#include <cmath>
#include <limits>

#include <Eigen/Dense>

#include "core/statistics.h"
#include "multiframe/surface_terms.h"

namespace limpid::multiframe {
namespace {

constexpr float no_data = std::numeric_limits<float>::quiet_NaN();
/// Cells per side, enough for six coefficients and outliers among them.
constexpr int cells_per_side = 8;
constexpr int cell_count = cells_per_side * cells_per_side;
/// Pixels of a cell that are looked at, and the least that tell a level.
constexpr std::size_t most_samples = 4096, fewest_samples = 100;
constexpr int terms_of_order[] = {1, 3, 6};

using Terms = SurfaceTerms;

Terms terms_of_cell(int cell) {
  const auto centre = [](int i) { return along(i, cells_per_side); };
  return surface_terms(centre(cell % cells_per_side), centre(cell / cells_per_side));
}

struct Fit {
  Terms coefficients = Terms::Zero();
  double score = 0;  ///< Bayesian information criterion
};

/// Least squares with Tukey's biweight (Beaton & Tukey 1974, Technometrics 16, 147) at 4.685
/// sigmas: a cell with a bright star depends on the seeing.
Fit fit_surface(const std::vector<float>& values, int terms) {
  std::vector<double> weights(values.size(), 1);
  Fit fit;
  for (int round = 0; round < 10; ++round) {
    Eigen::MatrixXd normal = Eigen::MatrixXd::Zero(terms, terms);
    Eigen::VectorXd right = Eigen::VectorXd::Zero(terms);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i]) || weights[i] <= 0) continue;
      const Eigen::VectorXd t = terms_of_cell(static_cast<int>(i)).head(terms);
      normal += weights[i] * t * t.transpose();
      right += weights[i] * values[i] * t;
    }
    normal.diagonal().array() += 1e-9;
    fit.coefficients.head(terms) = normal.ldlt().solve(right);
    std::vector<float> residuals;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) continue;
      residuals.push_back(
          static_cast<float>(values[i] - terms_of_cell(static_cast<int>(i)).dot(fit.coefficients)));
    }
    std::vector<float> sizes = residuals;
    for (float& size : sizes) size = std::abs(size);
    const double sigma = std::max<double>(sigma_per_mad * median_in_place(sizes), 1e-12);
    const auto count = static_cast<double>(residuals.size());
    fit.score = 2 * count * std::log(sigma) + terms * std::log(count);
    std::size_t at = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) continue;
      const double away = residuals[at++] / (4.685 * sigma);
      weights[i] = std::abs(away) < 1 ? (1 - away * away) * (1 - away * away) : 0;
    }
  }
  return fit;
}

/// What the frame's cells have over the mean of all frames' cells.
SkySurface surface_of(const std::vector<float>& difference) {
  SkySurface surface;
  std::size_t known = 0;
  for (const float value : difference) known += std::isnan(value) ? 0 : 1;
  if (known < cell_count / 2) return surface;
  Fit best = fit_surface(difference, terms_of_order[0]);
  for (const int terms : {terms_of_order[1], terms_of_order[2]}) {
    const Fit fit = fit_surface(difference, terms);
    // ten is very strong evidence (Kass & Raftery 1995, J. Am. Stat. Assoc. 90, 773)
    if (fit.score < best.score - 10) best = fit;
  }
  for (int i = 0; i < 6; ++i)
    surface.coefficients[static_cast<std::size_t>(i)] = static_cast<float>(best.coefficients[i]);
  return surface;
}

}  // namespace

void SkySurface::add_to(std::span<float> row, int x, int y, Size size, float factor) const {
  if (flat()) return;
  const auto& c = coefficients;
  const auto v = static_cast<float>(along(y, size.height));
  const float constant = factor * (c[0] + v * (c[2] + v * c[5])),
              slope = factor * (c[1] + v * c[4]);
  const float curve = factor * c[3];
  for (std::size_t i = 0; i < row.size(); ++i) {
    const auto u =
        static_cast<float>(along(static_cast<double>(x) + static_cast<double>(i), size.width));
    row[i] += constant + u * (slope + u * curve);
  }
}

std::vector<float> sky_cells(ConstView channel, const Coverage& coverage) {
  std::vector<float> cells(cell_count, no_data), samples;
  for (int cell = 0; cell < cell_count; ++cell) {
    const int column = cell % cells_per_side, line = cell / cells_per_side;
    const int x0 = channel.width() * column / cells_per_side,
              x1 = channel.width() * (column + 1) / cells_per_side;
    const int y0 = channel.height() * line / cells_per_side,
              y1 = channel.height() * (line + 1) / cells_per_side;
    const double pixels = static_cast<double>(x1 - x0) * (y1 - y0);
    const int step = std::max(1, static_cast<int>(std::sqrt(pixels / most_samples)));
    samples.clear();
    for (int y = y0; y < y1; y += step) {
      for (int x = x0; x < x1; x += step) {
        const float value = channel(0, y, x);
        if (std::isfinite(value) && coverage.covers(x, y)) samples.push_back(value);
      }
    }
    if (samples.size() >= fewest_samples)
      cells[static_cast<std::size_t>(cell)] = sky_level(samples);
  }
  return cells;
}

void match_skies(std::vector<Member>& members) {
  for (std::size_t c = 0; c < members[0].sky.size(); ++c) {
    // the levels are in `sky`; light that all frames have is as bright in all once scaled
    std::vector<std::vector<float>> matched;
    for (const Member& member : members) {
      auto& cells = matched.emplace_back(member.cells[c]);
      for (float& value : cells) value = (value - member.sky[c]) / member.scale[c];
    }
    std::vector<float> usual(cell_count, no_data);
    for (std::size_t cell = 0; cell < usual.size(); ++cell) {
      double sum = 0;
      for (const auto& cells : matched) sum += cells[cell];  // NaN where one frame sees nothing
      usual[cell] = static_cast<float>(sum / static_cast<double>(members.size()));
    }
    for (std::size_t m = 0; m < members.size(); ++m) {
      std::vector<float> difference = matched[m];
      for (std::size_t cell = 0; cell < usual.size(); ++cell) difference[cell] -= usual[cell];
      SkySurface surface = surface_of(difference);
      for (float& value : surface.coefficients) value *= members[m].scale[c];
      members[m].sky_surface.push_back(surface);
    }
  }
}

}  // namespace limpid::multiframe
