#include "multiframe/carry_over.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "multiframe/noise_model.h"
#include "multiframe/super_resolution.h"

namespace limpid::multiframe {
namespace {

/// A member of both surveys.
struct Common {
  const Member *before, *now;
  std::size_t place_before, place_now;
};

std::vector<Common> common_members(const Survey& before, const Survey& now) {
  std::vector<Common> common;
  for (std::size_t i = 0; i < now.members.size(); ++i) {
    const auto old = std::ranges::find(before.members, now.members[i].index, &Member::index);
    if (old == before.members.end()) continue;
    common.push_back(
        {&*old, &now.members[i], static_cast<std::size_t>(old - before.members.begin()), i});
  }
  return common;
}

/// Places are against the mean of all frames, which moves when one of them goes.
void move_to(Image& estimate, const std::vector<Common>& common, int factor) {
  constexpr float seen_px = 0.02F;
  const auto count = static_cast<float>(common.size()), f = static_cast<float>(factor);
  float x = 0, y = 0;
  for (const Common& member : common) {
    x += f * (member.before->shift_x - member.now->shift_x) / count;
    y += f * (member.before->shift_y - member.now->shift_y) / count;
  }
  if (std::hypot(x, y) < seen_px) return;
  for (int c = 0; c < estimate.channels(); ++c) {
    const Image channel = moved(estimate.view().channel(c), x, y);
    for (int row = 0; row < channel.height(); ++row)
      std::ranges::copy(channel.view().row(0, row), estimate.view().row(c, row).begin());
  }
}

}  // namespace

std::optional<MultiframeState> carry_over(const Standing& before, const Survey& now, float pedestal,
                                          int reach, int factor) {
  const std::vector<Common> common = common_members(before.survey, now);
  if (before.survey.size != now.size || common.empty()) return std::nullopt;
  const int margin = reach * 2;
  MultiframeState state;
  state.iteration = before.state.iteration;
  state.history = before.state.history;
  const int inset = before.reach - reach;
  state.estimate = extract_mirrored(
      before.state.estimate.view(),
      {inset, inset, now.size.width * factor + margin, now.size.height * factor + margin});
  move_to(state.estimate, common, factor);
  const auto blocks = static_cast<float>(factor * factor);
  for (int c = 0; c < now.channels; ++c) {
    const auto slot = static_cast<std::size_t>(c);
    // what a frame shows is light * sigma * scale, before and now
    const Common& any = common.front();
    const float ratio = before.survey.sigma[slot] * any.before->scale[slot] /
                        (now.sigma[slot] * any.now->scale[slot]);
    const float old_level = before.pedestal / blocks, level = pedestal / blocks;
    for (int y = 0; y < state.estimate.height(); ++y) {
      for (float& value : state.estimate.view().row(c, y))
        value = std::max(level + (value - old_level) * ratio, 0.1F * level);
    }
  }
  // in units of each frame's own noise; a frame that comes in begins as all do
  const auto channels = static_cast<std::size_t>(now.channels);
  for (std::size_t i = 0; i < now.members.size() * channels; ++i) {
    const NoiseModel usual;
    for (const float value : {usual.floor, usual.shot, usual.misfit}) state.noise.push_back(value);
  }
  for (const Common& member : common) {
    std::copy_n(before.state.noise.begin() +
                    static_cast<std::ptrdiff_t>(3 * channels * member.place_before),
                3 * channels,
                state.noise.begin() + static_cast<std::ptrdiff_t>(3 * channels * member.place_now));
  }
  return state;
}

}  // namespace limpid::multiframe
