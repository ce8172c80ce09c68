// Moffat fits of many stars in all channels of a frame.
#pragma once

#include <optional>
#include <vector>

#include <limpid/stars.h>

#include "measure/candidates.h"
#include "measure/moffat.h"

namespace limpid {

/// What the fits of one channel take for granted.
struct ChannelNoise {
  double sigma = 0;
  double gain = 0, model_error = 0;  ///< see MoffatOptions
  double beta = 0;                   ///< typical; held in the fits of faint stars
};

struct FitInput {
  CandidateInput scene;
  const std::vector<Candidate>& candidates;
  /// Errors of fits over what they would be if every pixel had noise of its own.
  float noise_correlation = 1;
};

/// Indices of at most `count` stars worth fitting, the brightest of every part of the frame.
std::vector<int> choose_stars(const std::vector<Candidate>& candidates, Size frame, int count,
                              float least_snr);

/// Shot noise and misfit of the Moffat profile from the residuals of these bright stars.
std::vector<ChannelNoise> learn_noise(const FitInput& input, const std::vector<int>& chosen,
                                      int threads);

/// The star's fit per channel; empty when none succeeds.
std::vector<StarFit> fit_star(const FitInput& input, const std::vector<ChannelNoise>& noise, int index);

}  // namespace limpid
