// Which stars are fit to be looked at closely, and what stands beside them.
#pragma once

#include <vector>

#include <limpid/stars.h>

namespace limpid {

/// Fitted stars that are neither saturated, blended nor on the edge: the brightest of each square
/// of an 8x8 pattern first, so that they are spread over the frame. Pointers into the catalogue.
std::vector<const Star*> bright_isolated_stars(const StarCatalogue& catalogue, std::size_t most,
                                               float least_snr);

/// The stars of a catalogue by squares of the frame. Keeps pointers into it.
class Neighbourhood {
 public:
  /// Of those in a part of the frame, and a square's width around it.
  Neighbourhood(const StarCatalogue& catalogue, int square_px, Rect part);
  Neighbourhood(const StarCatalogue& catalogue, int square_px)
      : Neighbourhood(catalogue, square_px, {0, 0, catalogue.frame.width, catalogue.frame.height}) {
  }
  /// All others within a square's width of `star`, some beyond.
  [[nodiscard]] std::vector<const Star*> around(const Star& star) const;

 private:
  [[nodiscard]] std::size_t index(int column, int row) const {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns_) +
           static_cast<std::size_t>(column);
  }
  [[nodiscard]] int column_of(const Star& star) const;
  [[nodiscard]] int row_of(const Star& star) const;
  int square_px_, left_, top_, columns_, rows_;
  std::vector<std::vector<const Star*>> squares_;
};

}  // namespace limpid
