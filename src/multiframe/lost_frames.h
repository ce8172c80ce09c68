// Frames that could be measured but cannot be read again: their host tells the others.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <limpid/error.h>
#include <limpid/hosts.h>

namespace limpid::multiframe {

struct LostFrame {
  int index = 0;  ///< of the input frame
  std::string reason;
};

/// Thrown where a frame is read for the second time and more.
class FrameLost : public Error {
 public:
  explicit FrameLost(LostFrame frame)
      : Error(ErrorKind::bad_input, frame.reason),
        frame_(std::move(frame)) {}
  [[nodiscard]] const LostFrame& frame() const { return frame_; }

 private:
  LostFrame frame_;
};

/// Thrown on all hosts alike, between two sums.
class FramesLost : public Error {
 public:
  explicit FramesLost(std::vector<LostFrame> frames)
      : Error(ErrorKind::bad_input, frames.front().reason),
        frames_(std::move(frames)) {}
  [[nodiscard]] const std::vector<LostFrame>& frames() const { return frames_; }

 private:
  std::vector<LostFrame> frames_;
};

/// Throws FramesLost where any host has lost some of the set's `count` input frames. All take part.
void share_losses(const std::vector<LostFrame>& own, std::size_t count, const Hosts& hosts);

}  // namespace limpid::multiframe
