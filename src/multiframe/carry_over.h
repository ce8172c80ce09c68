// An estimate of a set goes on as that of the set without the frames that were lost.
#pragma once

#include <optional>

#include <limpid/multiframe.h>

#include "multiframe/survey.h"

namespace limpid::multiframe {

/// Where the iterations of a set stood, and what its numbers mean.
struct Standing {
  MultiframeState state;
  Survey survey;
  float pedestal = 0;
  int reach = 0;
};

/// The state in the units, on the grid and with the members of `now`, of which pedestal and reach
/// are known. Nothing where the part that all frames cover has changed: no estimate is of that.
std::optional<MultiframeState> carry_over(const Standing& before, const Survey& now, float pedestal,
                                          int reach, int factor);

}  // namespace limpid::multiframe
