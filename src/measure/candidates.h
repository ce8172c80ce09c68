// What kind of thing each peak is: star, saturated star, cosmic ray, or no star at all.
#pragma once

#include <vector>

#include <limpid/stars.h>

#include "measure/matched_filter.h"

namespace limpid {

/// How a star of this width looks to the detection, measured on a noiseless one.
struct StarTemplate {
  explicit StarTemplate(float fwhm, float beta);
  /// Light at this distance over the central light.
  [[nodiscard]] float profile(float distance_px) const;

  float fwhm_px, beta;
  MatchedFilter filter;
  float height = 0;            ///< of the filtered frame, for unit flux
  float curvature = 0;         ///< Peak::most_curved
  float neighbour = 0;         ///< pixel beside the central one over the central one
  float diagonal_neighbour = 0;
};

struct Candidate {
  Peak peak;
  Star star;
  bool sharp = false;          ///< as curved as a point
  float plateau_px = 0;        ///< radius of the clipped core
  float brightness = 0;        ///< peak of the detection frame over its noise
  std::vector<int> neighbours; ///< whose light its fit must not see
};

/// Level of each channel at which cores are clipped, infinity when none are. Clipped cores are
/// flat over several pixels and end steeply; after stacking their levels differ by some per cent.
std::vector<float> find_saturation(ConstView frame, const std::vector<Peak>& peaks,
                                   const SkyModel& sky, const StarTemplate& shape);

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
