#include "multiframe/thumbnail.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <Eigen/Dense>

#include "core/statistics.h"
#include "multiframe/surface_terms.h"

namespace limpid::multiframe {
namespace {

constexpr int most_cells = 96, least_cell_px = 4;

using Terms = SurfaceTerms;
constexpr int terms = Terms::RowsAtCompileTime;

Terms terms_at(const Thumbnail& thumbnail, int x, int y) {
  return surface_terms(along(x, thumbnail.width), along(y, thumbnail.height));
}

/// Correlation of the cells that both have when `b` is moved by (dx, dy).
double correlation(const Thumbnail& a, const Thumbnail& b, int dx, int dy) {
  double products = 0, squares_a = 0, squares_b = 0;
  for (int y = std::max(0, dy); y < std::min(a.height, a.height + dy); ++y) {
    for (int x = std::max(0, dx); x < std::min(a.width, a.width + dx); ++x) {
      const double p = a.at(x, y), q = b.at(x - dx, y - dy);
      products += p * q;
      squares_a += p * p;
      squares_b += q * q;
    }
  }
  return squares_a > 0 && squares_b > 0 ? products / std::sqrt(squares_a * squares_b) : 0;
}

/// Value of the pair up to which half of the weights lie.
double weighted_median(std::vector<std::pair<double, double>> values) {
  std::ranges::sort(values);
  double all = 0, sum = 0;
  for (const auto& [value, weight] : values) all += weight;
  for (const auto& [value, weight] : values) {
    sum += weight;
    if (2 * sum >= all) return value;
  }
  return 0;
}

}  // namespace

Thumbnail make_thumbnail(ConstView image, const std::vector<Coverage>& coverage) {
  const int longest = std::max(image.width(), image.height());
  const int side = std::max(least_cell_px, (longest + most_cells - 1) / most_cells);
  Thumbnail result{image.width() / side, image.height() / side, {}};
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      double total = 0;
      for (int c = 0; c < image.channels(); ++c) {
        double sum = 0;
        int count = 0;
        for (int v = y * side; v < (y + 1) * side; ++v) {
          for (int u = x * side; u < (x + 1) * side; ++u) {
            const float value = image(c, v, u);
            if (!std::isfinite(value) ||
                (!coverage.empty() && !coverage[static_cast<std::size_t>(c)].covers(u, v)))
              continue;
            sum += static_cast<double>(value);
            ++count;
          }
        }
        total += 2 * count > side * side ? sum / count : std::numeric_limits<double>::quiet_NaN();
      }
      result.cells.push_back(static_cast<float>(total));
    }
  }
  return result;
}

Thumbnail without_sky(const Thumbnail& thumbnail) {
  Thumbnail result = thumbnail;
  std::vector<float> known = without_nan(thumbnail.cells);
  std::ranges::fill(result.cells, 0.0F);
  if (known.size() < 2 * terms) return result;
  float centre = median(known), limit = std::numeric_limits<float>::infinity(), sigma = 0;
  Terms surface = Terms::Zero();
  surface[0] = static_cast<double>(centre);
  for (int round = 0; round < 6; ++round) {
    Eigen::Matrix<double, terms, terms> normal =
        1e-9 * Eigen::Matrix<double, terms, terms>::Identity();
    Terms right = Terms::Zero();
    for (int y = 0; y < result.height; ++y) {
      for (int x = 0; x < result.width; ++x) {
        const Terms t = terms_at(result, x, y);
        const double away = static_cast<double>(thumbnail.at(x, y)) - surface.dot(t);
        if (!(std::abs(away) <= static_cast<double>(limit))) continue;
        normal += t * t.transpose();
        right += away * t;
      }
    }
    surface += normal.ldlt().solve(right);
    std::vector<float> sizes;
    for (int y = 0; y < result.height; ++y) {
      for (int x = 0; x < result.width; ++x) {
        const double away =
            static_cast<double>(thumbnail.at(x, y)) - surface.dot(terms_at(result, x, y));
        if (!std::isnan(away)) sizes.push_back(static_cast<float>(std::abs(away)));
      }
    }
    sigma = static_cast<float>(sigma_per_mad) * median_in_place(sizes);
    limit = 3 * sigma;
  }
  // rounding of the cells themselves is no light
  if (!(sigma > 1e-6F * std::abs(centre))) return result;
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      const double away =
          static_cast<double>(thumbnail.at(x, y)) - surface.dot(terms_at(result, x, y));
      const auto at = static_cast<std::size_t>(y) * static_cast<std::size_t>(result.width) +
                      static_cast<std::size_t>(x);
      // one bright star in both must not outweigh all that differs
      if (!std::isnan(away))
        result.cells[at] = static_cast<float>(std::asinh(away / static_cast<double>(3 * sigma)));
    }
  }
  return result;
}

Line fit_line(const Thumbnail& given, const Thumbnail& stack) {
  const auto sky_of = [](const std::vector<float>& values) {
    return values.empty() ? 0.0 : static_cast<double>(median(values));
  };
  std::vector<float> both;
  for (std::size_t i = 0; i < stack.cells.size(); ++i)
    if (!std::isnan(given.cells[i] + stack.cells[i])) both.push_back(stack.cells[i]);
  const float centre = median(both);
  const float scatter = sigma_per_mad * mad(both, centre);
  std::vector<float> dark_given, dark_stack;
  for (std::size_t i = 0; i < stack.cells.size(); ++i) {
    if (std::isnan(given.cells[i] + stack.cells[i]) || stack.cells[i] > centre) continue;
    dark_given.push_back(given.cells[i]);
    dark_stack.push_back(stack.cells[i]);
  }
  const double sky_given = sky_of(dark_given), sky_stack = sky_of(dark_stack);
  std::vector<std::pair<double, double>> ratios;
  for (int y = 1; y + 1 < stack.height; ++y) {
    for (int x = 1; x + 1 < stack.width; ++x) {
      if (!(stack.at(x, y) > centre + 3 * scatter)) continue;
      double light_given = 0, light_stack = 0;
      for (int v = y - 1; v <= y + 1; ++v) {
        for (int u = x - 1; u <= x + 1; ++u) {
          light_given += static_cast<double>(given.at(u, v)) - sky_given;
          light_stack += static_cast<double>(stack.at(u, v)) - sky_stack;
        }
      }
      if (light_stack > 0 && !std::isnan(light_given))
        ratios.emplace_back(light_given / light_stack, light_stack);
    }
  }
  const double slope = weighted_median(ratios);
  std::vector<float> away;
  for (const auto& [ratio, weight] : ratios)
    away.push_back(static_cast<float>(std::abs(ratio - slope)));
  // 1.25 sigma / sqrt(n): error of a median; nine neighbours share their cells
  const double error = away.empty()
                           ? 0
                           : 1.25 * sigma_per_mad * static_cast<double>(median_in_place(away)) /
                                 std::sqrt(std::max(1.0, static_cast<double>(away.size()) / 9));
  return {sky_given - slope * sky_stack, slope, error};
}

bool show_the_same(const Thumbnail& a, const Thumbnail& b) {
  if (a.width != b.width || a.height != b.height) return false;
  std::size_t known = 0;
  for (std::size_t i = 0; i < a.cells.size(); ++i)
    known += a.cells[i] != 0 && b.cells[i] != 0 ? 1 : 0;
  if (known < 9) return false;
  const double here = correlation(a, b, 0, 0);
  // Pearson's r of n independent pairs scatters by 1 / sqrt(n)
  if (here * std::sqrt(static_cast<double>(known)) < 5) return false;
  // What is smooth is correlated with anything: moved, the two must agree less.
  const auto moves = [](int cells) { return std::pair{cells / 4, std::max(1, cells / 32)}; };
  const auto [reach_x, step_x] = moves(a.width);
  const auto [reach_y, step_y] = moves(a.height);
  double sum = 0, squares = 0;
  int count = 0;
  for (int dy = -reach_y; dy <= reach_y; dy += step_y) {
    for (int dx = -reach_x; dx <= reach_x; dx += step_x) {
      if (std::abs(dx) <= 2 && std::abs(dy) <= 2) continue;
      const double there = correlation(a, b, dx, dy);
      if (there > here) return false;
      sum += there;
      squares += there * there;
      ++count;
    }
  }
  if (count == 0) return true;
  const double mean = sum / count, sigma = std::sqrt(std::max(0.0, squares / count - mean * mean));
  return here > 0.5 || here > mean + 3 * sigma;
}

}  // namespace limpid::multiframe
