// The members' pixels, matched to each other: read part by part, or kept when memory allows.
#pragma once

#include <span>
#include <vector>

#include <limpid/image.h>
#include <limpid/multiframe.h>

#include "multiframe/lost_frames.h"
#include "multiframe/survey.h"

namespace limpid::multiframe {

/// Matched pixels are (shared units - sky) / (scale * sigma of the set) + pedestal: the noise of a
/// typical frame is 1, the sky lies at the pedestal, and stars are equally bright in all frames.
class FrameStream {
 public:
  FrameStream(std::span<const InputFrame> frames, const Survey& survey,
              const MultiframeOptions& options);

  [[nodiscard]] int count() const { return static_cast<int>(survey_->members.size()); }
  [[nodiscard]] int channels() const { return survey_->channels; }
  [[nodiscard]] Size size() const { return survey_->size; }
  /// Each input frame has one host that measures it and solves for it.
  [[nodiscard]] bool belongs_to(const Hosts& hosts, int member) const {
    return hosts.owns(survey_->members[static_cast<std::size_t>(member)].index);
  }
  [[nodiscard]] float pedestal() const { return pedestal_; }
  void set_pedestal(float pedestal) { pedestal_ = pedestal; }
  /// One sigma of the member's sky in matched units.
  [[nodiscard]] float sigma(int member, int channel) const;

  /// Matched pixels of a part; NaN where nothing is known: borders, gaps, rejected pixels and, with
  /// star masks, clipped cores. Throws FrameLost when it cannot be read.
  [[nodiscard]] Image load(int member, Rect rect) const;
  /// The same with clipped cores.
  [[nodiscard]] Image load_all(int member, Rect rect) const;
  /// Local sigma of the sky along one row; empty without variance maps.
  void fill_sigma(int member, int channel, int y, std::span<float> row) const;

  /// That frame, and all others of which nothing can be read now: disks and folders go as a whole.
  [[nodiscard]] std::vector<LostFrame> lost_with(const LostFrame& frame) const;
  [[nodiscard]] std::size_t input_count() const { return frames_.size(); }

  /// Keeps this host's matched pixels in memory from now on. The pedestal must not change after.
  void keep(const Hosts& hosts, int threads);
  [[nodiscard]] bool kept() const { return !kept_.empty(); }
  /// A part of what is kept.
  [[nodiscard]] ConstView view(int member, Rect rect) const {
    return kept_[static_cast<std::size_t>(member)].view().crop(rect);
  }

 private:
  [[nodiscard]] Image load(int member, Rect rect, bool all) const;
  [[nodiscard]] Image read(const Member& member, Rect rect, bool all) const;

  std::span<const InputFrame> frames_;
  const Survey* survey_;
  bool luma_, star_masks_;
  float pedestal_ = 0;
  std::vector<Image> kept_;
};

}  // namespace limpid::multiframe
