// What kind of thing each peak is: star, saturated star, cosmic ray, or no star at all.
#pragma once

#include <vector>

#include <limpid/stars.h>

#include "measure/star_template.h"

namespace limpid {

struct Candidate {
  Peak peak;
  Star star;
  bool sharp = false;           ///< as curved as a point
  float plateau_px = 0;         ///< radius of the clipped core
  float brightness = 0;         ///< peak of the detection frame over its noise
  std::vector<int> neighbours;  ///< whose light its fit must not see
};

struct CandidateInput {
  ConstView frame, detection;
  const SkyModel& sky;
  const StarTemplate& shape;
  const std::vector<float>& saturation;
  float threshold_sigma;  ///< that of detection
};

/// Stars and artefacts, with their flags; what is clearly neither is left out. Brightest first.
std::vector<Candidate> judge_peaks(const CandidateInput& input, const std::vector<Peak>& peaks,
                                   int threads);

}  // namespace limpid
