// Residuals of many stars, stacked on a fine grid as polynomials of the place in the frame.
#pragma once

#include <cstddef>
#include <vector>

#include <limpid/stars.h>

#include "measure/star_stack.h"

namespace limpid {

/// Fewer stars tell nothing that a Moffat does not.
inline constexpr std::size_t fewest_stacked = 8;

/// One channel's stack: what its stars are, what is left of them beside the field's Moffat, and
/// the planes fitted to that. `order`: of the polynomials, -1 where nothing is told.
struct StackedChannel {
  std::vector<StackedStar> found;
  std::vector<StarSamples> samples;
  Planes planes;
  int order = -1;
};

/// Stacks the `chosen` stars of all channels, as far as `reach` px from each. The order is the one
/// that predicts stars left out best; what only half of the stars show is left out of the planes.
std::vector<StackedChannel> stack_stars(ConstView frame, const StarCatalogue& catalogue,
                                        const PsfField& field,
                                        const std::vector<const Star*>& chosen, int reach,
                                        int threads);

/// Whether the residual near its end, to one side, in the middle of the frame or in a corner, is
/// light of which more may lie farther out: the tail of a coma. `psf`: the mean one.
bool ends_in_a_tail(const std::vector<StackedChannel>& channels, int reach, const Psf& psf);

/// Whether stars that were left out are told better by a stack with what it has beyond `near_px`
/// than without: a tail is theirs, too, the nebula beside others is not.
bool tells_left_out_stars(const std::vector<StackedChannel>& channels, int reach, int near_px);

}  // namespace limpid
