#include "multiframe/lost_frames.h"

#include <algorithm>
#include <utility>

namespace limpid::multiframe {

void share_losses(const std::vector<LostFrame>& own, std::size_t count, const Hosts& hosts) {
  if (hosts.count == 1) {
    if (!own.empty()) throw FramesLost(own);
    return;
  }
  // how long the reason is that each host has for each frame: several may have read one
  std::vector<float> lengths(count * static_cast<std::size_t>(hosts.count));
  const auto slot = [&](std::size_t frame, int host) {
    return frame * static_cast<std::size_t>(hosts.count) + static_cast<std::size_t>(host);
  };
  for (const LostFrame& lost : own) {
    lengths[slot(static_cast<std::size_t>(lost.index), hosts.rank)] =
        static_cast<float>(std::max<std::size_t>(lost.reason.size(), 1));
  }
  hosts.sum(lengths);
  std::vector<LostFrame> all;
  for (std::size_t frame = 0; frame < count; ++frame) {
    for (int host = 0; host < hosts.count; ++host) {
      const auto length = static_cast<std::size_t>(lengths[slot(frame, host)]);
      if (length == 0) continue;
      std::vector<float> letters(length);
      if (host == hosts.rank) {
        const auto mine = std::ranges::find(own, static_cast<int>(frame), &LostFrame::index);
        std::ranges::transform(mine->reason, letters.begin(), [](char c) {
          return static_cast<float>(static_cast<unsigned char>(c));
        });
      }
      hosts.sum(letters);
      LostFrame& lost = all.emplace_back();
      lost.index = static_cast<int>(frame);
      for (const float letter : letters)
        lost.reason.push_back(static_cast<char>(static_cast<unsigned char>(letter)));
      break;  // one reason is enough
    }
  }
  if (!all.empty()) throw FramesLost(std::move(all));
}

}  // namespace limpid::multiframe
