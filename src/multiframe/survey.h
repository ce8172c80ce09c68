// What the set tells before it is solved: sky, scale, place and PSF of every frame, and which
// frames do not belong to it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <limpid/multiframe.h>
#include <limpid/stars.h>

#include "measure/mesh.h"

namespace limpid::multiframe {

/// A polynomial of second order in x and y, both -1..1 over the frame.
struct SkySurface {
  std::array<float, 6> coefficients{};  ///< of 1, x, y, x^2, x y, y^2
  [[nodiscard]] bool flat() const {
    return std::ranges::all_of(coefficients, [](float c) { return c == 0; });
  }
  /// Adds `factor` times its values along row y of a frame of `size`, from column x on.
  void add_to(std::span<float> row, int x, int y, Size size, float factor) const;
};

/// A frame that takes part. Per working channel (one with MultiframeOptions::luma).
struct Member {
  int index = 0;                          ///< into the input frames
  std::vector<float> sky, sigma, scale;   ///< in shared units, sigma before the scale is taken out
  float shift_x = 0, shift_y = 0;         ///< px, against the mean of the members
  std::optional<float> saturation;        ///< level of clipped cores, in shared units
  std::shared_ptr<const PsfField> field;  ///< null when the frame came with its PSF
  float beta_factor = 1,
        fwhm_factor = 1;           ///< what the other frames make of the field's, match_wings()
  std::vector<Coverage> coverage;  ///< where it has data
  std::vector<std::vector<float>> cells;  ///< sky in coarse cells, see sky_cells()
  std::vector<SkySurface>
      sky_surface;          ///< of its sky over the set's, in shared units; without the level
  std::vector<Mesh> noise;  ///< local sigma of the sky; empty without variance maps
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

struct Measured;

/// What a second survey of the same frames need not read again.
struct Measurements {
  Measurements();
  ~Measurements();
  Size size;                     ///< of the part that was measured
  std::vector<bool> made;        ///< per input frame
  std::vector<Measured> frames;  ///< before they are compared
};

/// Reads every frame once that `known` has not. `faults`: why frames must stay out that their own
/// fault does not keep out, empty texts or none at all for the others. Throws as deconvolve_frames;
/// without `psf_needed` frames without a PSF stay.
Survey survey(std::span<const InputFrame> frames, const std::vector<std::string>& faults,
              Measurements& known, const MultiframeOptions& options, bool psf_needed,
              const Progress& progress);
Survey survey(std::span<const InputFrame> frames, const MultiframeOptions& options, bool psf_needed,
              const Progress& progress);

}  // namespace limpid::multiframe
