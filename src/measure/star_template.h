// A star as the detection sees it.
#pragma once

#include "measure/matched_filter.h"

namespace limpid {

/// How a star of this width looks to the detection, measured on a noiseless one.
struct StarTemplate {
  explicit StarTemplate(float fwhm, float beta);
  /// Light at this distance over the central light.
  [[nodiscard]] float profile(float distance_px) const;

  float fwhm_px, beta;
  MatchedFilter filter;
  float height = 0;     ///< of the filtered frame, for unit flux
  float curvature = 0;  ///< Peak::most_curved
  float neighbour = 0;  ///< pixel beside the central one over the central one
  float diagonal_neighbour = 0;
};

}  // namespace limpid
