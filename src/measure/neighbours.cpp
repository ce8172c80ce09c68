#include "measure/neighbours.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace limpid {

std::vector<const Star*> bright_isolated_stars(const StarCatalogue& catalogue, std::size_t most,
                                               float least_snr) {
  constexpr int squares = 8;
  std::array<std::vector<const Star*>, squares * squares> parts;
  for (const Star& star : catalogue.stars) {  // brightest first
    if (star.fits.empty() || star.saturated || star.blended || star.on_edge || star.artefact ||
        star.snr < least_snr)
      continue;
    const int column =
        std::clamp(static_cast<int>(star.x) * squares / catalogue.frame.width, 0, squares - 1);
    const int row =
        std::clamp(static_cast<int>(star.y) * squares / catalogue.frame.height, 0, squares - 1);
    parts[static_cast<std::size_t>(row * squares + column)].push_back(&star);
  }
  std::vector<const Star*> chosen;
  for (std::size_t rank = 0;; ++rank) {
    bool any = false;
    for (const auto& part : parts) {
      if (rank >= part.size() || chosen.size() == most) continue;
      chosen.push_back(part[rank]);
      any = true;
    }
    if (!any) return chosen;
  }
}

// One square more on each side: neighbours of a star at the part's edge.
Neighbourhood::Neighbourhood(const StarCatalogue& catalogue, int square_px, Rect part)
    : square_px_(square_px),
      left_(part.x - square_px),
      top_(part.y - square_px),
      columns_(part.width / square_px + 3),
      rows_(part.height / square_px + 3),
      squares_(static_cast<std::size_t>(columns_) * static_cast<std::size_t>(rows_)) {
  for (const Star& star : catalogue.stars) {
    if (star.artefact) continue;
    const int column = column_of(star), row = row_of(star);
    if (column >= 0 && row >= 0 && column < columns_ && row < rows_)
      squares_[index(column, row)].push_back(&star);
  }
}

int Neighbourhood::column_of(const Star& star) const {
  return static_cast<int>(
      std::floor((star.x - static_cast<float>(left_)) / static_cast<float>(square_px_)));
}
int Neighbourhood::row_of(const Star& star) const {
  return static_cast<int>(
      std::floor((star.y - static_cast<float>(top_)) / static_cast<float>(square_px_)));
}

std::vector<const Star*> Neighbourhood::around(const Star& star) const {
  const int column = column_of(star), row = row_of(star);
  std::vector<const Star*> result;
  for (int j = std::max(0, row - 1); j <= std::min(rows_ - 1, row + 1); ++j) {
    for (int i = std::max(0, column - 1); i <= std::min(columns_ - 1, column + 1); ++i) {
      for (const Star* other : squares_[index(i, j)]) {
        if (other != &star) result.push_back(other);
      }
    }
  }
  return result;
}

}  // namespace limpid
