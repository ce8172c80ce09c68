// What the set tells before it is solved: sky, scale, place and PSF of every frame, and which frames
// do not belong to it.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <limpid/multiframe.h>
#include <limpid/stars.h>

#include "measure/sky.h"

namespace limpid::multiframe {

/// A frame that takes part. Per working channel (one with MultiframeOptions::luma).
struct Member {
  int index = 0;                          ///< into the input frames
  std::vector<float> sky, sigma, scale;   ///< in shared units, sigma before the scale is taken out
  float shift_x = 0, shift_y = 0;         ///< px, against the mean of the members
  std::optional<float> saturation;        ///< level of clipped cores, in shared units
  std::shared_ptr<const PsfField> field;  ///< null when the frame came with its PSF
  std::vector<Coverage> coverage;         ///< where it has data
  std::vector<Mesh> noise;                ///< local sigma of the sky; empty without variance maps
};

struct Survey {
  std::vector<Member> members;
  std::vector<FrameSummary> summaries;  ///< of all input frames
  Size size;                            ///< of the part that all members cover
  int channels = 0;                     ///< working channels
  int reference = 0;                    ///< input frame whose units and metadata the result has
  float widest_fwhm_px = 0;
  std::vector<float> sky, sigma;  ///< of the set: mean level, typical noise of one frame
  std::vector<std::string> notes;
};

/// Reads every frame once. Throws as deconvolve_frames; without `psf_needed` frames without a PSF
/// stay.
Survey survey(std::span<const InputFrame> frames, const MultiframeOptions& options,
              bool psf_needed, const Progress& progress);

/// Pixels of a part of a frame in shared units, one channel if `luma`.
Image read_working(const InputFrame& frame, Rect rect, bool luma);

/// The PSF of a member around a place: (1, side, side), not negative, sums to 1, centred on
/// (side / 2, side / 2) plus the member's shift plus (shift_u, shift_v).
Image kernel_at(const Member& member, const InputFrame& frame, float x, float y, int channel,
                int side, float shift_u = 0, float shift_v = 0);

}  // namespace limpid::multiframe
