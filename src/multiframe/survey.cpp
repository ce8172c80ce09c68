#include "multiframe/survey.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "core/statistics.h"
#include "multiframe/match_skies.h"
#include "multiframe/match_wings.h"
#include "multiframe/measure_frame.h"
#include "multiframe/share_measurements.h"
#include "multiframe/thumbnail.h"

namespace limpid::multiframe {
namespace {

struct Pair {
  const Point *a, *b;
};

struct Place {
  float x = 0, y = 0;
};

/// Registered stars lie no further from where the set has them, px.
constexpr float furthest_px = 3;

/// Each point of `a` and the nearest of `b`, moved by `moved`, within `radius`.
std::vector<Pair> match(const std::vector<Point>& a, const std::vector<Point>& b, float radius,
                        Place moved = {}) {
  std::vector<Pair> pairs;
  for (const Point& p : a) {
    const Point* nearest = nullptr;
    float least = radius;
    for (const Point& q : b) {
      const float distance = std::hypot(p.x - q.x - moved.x, p.y - q.y - moved.y);
      if (distance < least) {
        least = distance;
        nearest = &q;
      }
    }
    if (nearest != nullptr) pairs.push_back({&p, nearest});
  }
  return pairs;
}

/// Registered frames of one field share most of their brightest stars; `moved` is where `a` has
/// those of `b`. Not told where one of them has too few.
std::optional<bool> share_stars(const Measured& a, const Measured& b, Place moved = {}) {
  constexpr std::size_t compared = 60;
  const std::vector<Point> few_a(
      a.points.begin(),
      a.points.begin() + static_cast<std::ptrdiff_t>(std::min(compared, a.points.size())));
  const std::vector<Point> few_b(
      b.points.begin(),
      b.points.begin() + static_cast<std::ptrdiff_t>(std::min(compared, b.points.size())));
  const std::size_t fewer = std::min(few_a.size(), few_b.size());
  if (fewer < 3) return std::nullopt;
  // the brightest of the one among all of the other: depth and blending differ
  const auto pairs = few_a.size() <= few_b.size()
                         ? match(few_a, b.points, furthest_px, moved)
                         : match(few_b, a.points, furthest_px, {-moved.x, -moved.y});
  return 10 * pairs.size() >= 4 * fewer;
}

/// By their stars, or where those are too few by their pixels.
bool belong_together(const Measured& a, const Measured& b, Place moved = {}) {
  return share_stars(a, b, moved).value_or(&a == &b || show_the_same(a.thumbnail, b.thumbnail));
}

/// The shift of a frame against another and how far it scatters, from the stars that both show
/// well.
struct Shift {
  Spread x, y;
  std::size_t stars = 0;
  [[nodiscard]] Place place() const { return {x.median, y.median}; }
};
std::optional<Shift> shift_between(const std::vector<Pair>& pairs) {
  std::vector<float> dx, dy;
  for (const auto& [own, other] : pairs) {
    if (!own->clean || !other->clean) continue;
    dx.push_back(own->x - other->x);
    dy.push_back(own->y - other->y);
  }
  if (dx.size() < 3) return std::nullopt;
  return Shift{robust_spread(dx), robust_spread(dy), dx.size()};
}

/// The frame that all are compared with, and where the frames that agree with it have its stars:
/// the median, in which one frame that is itself misaligned does not count.
struct Reference {
  std::size_t index = 0;
  Place usual;
};

/// The frame that belongs to the most others, and of those the one with most stars.
std::size_t find_centre(const std::vector<Measured>& frames) {
  std::size_t best = 0;
  std::pair<int, std::size_t> most{-1, 0};
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!frames[i].fault.empty()) continue;
    int friends = 0;
    for (std::size_t j = 0; j < frames.size(); ++j)
      friends += frames[j].fault.empty() && belong_together(frames[i], frames[j]) ? 1 : 0;
    const std::pair<int, std::size_t> score{friends, frames[i].points.size()};
    if (score > most) {
      most = score;
      best = i;
    }
  }
  return best;
}

Place usual_place(const std::vector<std::optional<Place>>& places, Place seen_from) {
  std::vector<float> x, y;
  for (const auto& place : places) {
    if (!place) continue;
    x.push_back(place->x - seen_from.x);
    y.push_back(place->y - seen_from.y);
  }
  if (x.empty()) return {};
  return {median(x), median(y)};
}

/// Of the frames that belong to the most others the one with most stars, but none that is itself
/// misaligned: the result has its header, and what lies too far from it is left out.
Reference find_reference(const std::vector<Measured>& frames) {
  constexpr float close_px = 0.5F;
  const std::size_t centre = find_centre(frames);
  std::vector<std::optional<Place>> places(frames.size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!frames[i].fault.empty() || !belong_together(frames[i], frames[centre])) continue;
    if (const auto shift =
            shift_between(match(frames[i].points, frames[centre].points, furthest_px)))
      places[i] = shift->place();
  }
  const Place usual = usual_place(places, {});
  Reference best{centre, usual};
  if (std::hypot(usual.x, usual.y) <= close_px) return best;
  std::size_t most = 0;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!places[i] || frames[i].points.size() <= most) continue;
    if (std::hypot(places[i]->x - usual.x, places[i]->y - usual.y) > close_px) continue;
    most = frames[i].points.size();
    best = {i, usual_place(places, *places[i])};
  }
  return best;
}

/// Names the fault of frames that are given twice or do not belong to the others; returns the
/// reference.
Reference judge(std::vector<Measured>& measured, std::span<const InputFrame> frames) {
  for (std::size_t i = 0; i < measured.size(); ++i) {
    for (std::size_t j = 0; j < i && measured[i].fault.empty(); ++j) {
      if (measured[j].fault.empty() && measured[i].digest == measured[j].digest)
        measured[i].fault = "the same as " + frames[j].name;
    }
  }
  const Reference reference = measured.empty() ? Reference{} : find_reference(measured);
  for (Measured& m : measured) {
    const Measured& usual = measured[reference.index];
    if (!m.fault.empty() || belong_together(m, usual, reference.usual)) continue;
    m.fault = share_stars(m, usual, reference.usual)
                  ? "shows other stars, or is misaligned by more than 3 px"
                  : "has too few stars to be compared, and nothing else in it is what " +
                        frames[reference.index].name + " shows";
  }
  return reference;
}

/// Where stars do not tell it: from what both show, which no blur changes much. Clipped stars are
/// not as bright as they are; where there are stars they tell no more than that the unit is
/// another.
float scale_of_picture(const Measured& frame, const Measured& reference, std::size_t channel) {
  const auto& [level, slope, error] = fit_line(frame.light[channel], reference.light[channel]);
  const bool known = slope > 0 && std::abs(slope - 1) > 2 * error;
  const bool stars = share_stars(frame, reference).has_value();
  return known && (!stars || slope > 3 || slope < 1.0 / 3) ? static_cast<float>(slope) : 1.0F;
}

/// Scale and shift against the reference, from the stars that both show well.
void compare(Measured& frame, const Measured& reference, Place usual) {
  const auto pairs = match(frame.points, reference.points, furthest_px, usual);
  if (const auto shift = shift_between(pairs)) {
    const auto& [x, y, stars] = *shift;
    // 1.25 / sqrt(n): error of a median; a shift within twice that is none
    const float error = 1.25F / std::sqrt(static_cast<float>(stars));
    if (std::abs(x.median) > 2 * error * x.sigma) frame.member.shift_x = x.median;
    if (std::abs(y.median) > 2 * error * y.sigma) frame.member.shift_y = y.median;
  }
  for (std::size_t c = 0; c < frame.member.scale.size(); ++c) {
    std::vector<float> ratios;
    for (const auto& [own, other] : pairs) {
      if (own->clean && other->clean && own->flux[c] > 0 && other->flux[c] > 0)
        ratios.push_back(std::log(own->flux[c] / other->flux[c]));
    }
    if (ratios.size() >= 3) {
      frame.member.scale[c] = std::exp(median(ratios));
    } else {
      frame.member.scale[c] = scale_of_picture(frame, reference, c);
    }
  }
}

/// Whether a frame records light in units, or for a time, like the reference, against which its
/// scale is.
bool is_comparable(const Member& member) {
  constexpr float most = 10;
  return std::ranges::all_of(member.scale,
                             [](float scale) { return scale < most && scale > 1 / most; });
}

/// Shifts and scales against the set's mean instead of one frame's: what the mean stack has. Frames
/// of other units are left out of the mean of scales; `comparable` tells which.
void refer_to_mean(std::vector<Member>& members, const std::vector<bool>& comparable) {
  const auto count = static_cast<float>(members.size());
  const auto alike = static_cast<float>(std::ranges::count(comparable, true));
  float x = 0, y = 0;
  for (const Member& member : members) {
    x += member.shift_x / count;
    y += member.shift_y / count;
  }
  for (Member& member : members) {
    member.shift_x -= x;
    member.shift_y -= y;
  }
  for (std::size_t c = 0; c < members[0].scale.size(); ++c) {
    float mean = 0;
    for (std::size_t m = 0; m < members.size(); ++m)
      if (comparable[m]) mean += members[m].scale[c] / alike;
    for (Member& member : members) member.scale[c] /= mean;
  }
}

bool readable(const InputFrame& frame, int channels, std::string& fault) {
  constexpr int least_px = 32;
  const bool large = frame.size.width >= least_px && frame.size.height >= least_px;
  if (frame.channels == channels && large) return true;
  std::array<char, 120> text{};
  if (large) {
    std::snprintf(text.data(), text.size(), "channels: %d, the others have %d", frame.channels,
                  channels);
  } else {
    std::snprintf(text.data(), text.size(), "%d x %d pixels; at least %d x %d are needed",
                  frame.size.width, frame.size.height, least_px, least_px);
  }
  fault = text.data();
  return false;
}

void describe(const Measured& measured, FrameSummary& summary) {
  summary.stars = measured.stars;
  summary.fwhm_px = measured.fwhm_px;
  summary.ellipticity = measured.ellipticity;
  summary.beta = measured.beta;
  if (measured.member.sky.empty()) return;
  summary.sky = measured.member.sky[0];
  summary.sigma = measured.member.sigma[0];
}

/// The number of channels that most frames have.
int usual_channels(std::span<const InputFrame> frames) {
  const auto count = [&](int channels) {
    return std::ranges::count_if(
        frames, [=](const InputFrame& f) { return f.fault.empty() && f.channels == channels; });
  };
  return count(3) > count(1) ? 3 : 1;
}

/// A frame much smaller than the others is left out instead of cutting all down to it.
Size common_size(std::span<const InputFrame> frames, std::vector<std::string>& faults) {
  std::vector<float> areas;
  for (std::size_t i = 0; i < frames.size(); ++i)
    if (faults[i].empty()) areas.push_back(static_cast<float>(frames[i].size.pixels()));
  if (areas.empty()) return {};
  const float usual = median(areas);
  Size size{1 << 30, 1 << 30};
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!faults[i].empty()) continue;
    if (static_cast<float>(frames[i].size.pixels()) < 0.5F * usual) {
      faults[i] = "less than half as large as the others";
      continue;
    }
    size = {std::min(size.width, frames[i].size.width),
            std::min(size.height, frames[i].size.height)};
  }
  return size;
}

/// Mean level of the set, and the typical noise of a frame, both with the scale taken out.
void set_levels(Survey& result, const std::vector<bool>& comparable) {
  const auto alike = static_cast<double>(std::ranges::count(comparable, true));
  for (int c = 0; c < result.channels; ++c) {
    const auto slot = static_cast<std::size_t>(c);
    double sky = 0;
    std::vector<float> sigmas;
    for (std::size_t m = 0; m < result.members.size(); ++m) {
      const Member& member = result.members[m];
      if (comparable[m]) sky += member.sky[slot] / alike;
      sigmas.push_back(member.sigma[slot] / member.scale[slot]);
    }
    result.sky.push_back(static_cast<float>(sky));
    result.sigma.push_back(median(sigmas));
  }
}

/// Where a frame that is left out was smaller than those that are used, it must not cut them: its
/// fault goes to `faults`, and all has to be measured again.
bool freed_of_left_out(std::span<const InputFrame> frames, const std::vector<Measured>& measured,
                       Size size, std::vector<std::string>& faults) {
  Size wanted{1 << 30, 1 << 30};
  std::size_t used = 0;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!measured[i].fault.empty()) continue;
    ++used;
    wanted = {std::min(wanted.width, frames[i].size.width),
              std::min(wanted.height, frames[i].size.height)};
  }
  if (used < 2 || wanted == size) return false;
  bool freed = false;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const Size own = frames[i].size;
    if (!faults[i].empty() || (own.width >= wanted.width && own.height >= wanted.height)) continue;
    faults[i] = measured[i].fault;
    freed = true;
  }
  return freed;
}

std::vector<Measured> measure_all(std::span<const InputFrame> frames,
                                  const std::vector<std::string>& faults, Size size,
                                  Measurements& known, const MultiframeOptions& options,
                                  bool psf_needed, const Progress& progress) {
  std::vector<Measured> measured(frames.size());
  if (known.size != size || known.made.size() != frames.size())
    known.made.assign(frames.size(), false);
  known.size = size;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    progress.throw_if_stopped();
    progress(static_cast<double>(i) / static_cast<double>(frames.size()),
             "measuring " + frames[i].name);
    if (!options.hosts.owns(static_cast<int>(i))) continue;
    if (known.made[i] && faults[i].empty()) {
      measured[i] = known.frames[i];
    } else if (faults[i].empty()) {
      known.made[i] = true;
      try {
        measured[i] = measure(frames[i], static_cast<int>(i), size, options, psf_needed);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::bad_input) throw;
        measured[i].fault = error.what();
      }
    } else {
      measured[i].fault = faults[i];
    }
  }
  share_measurements(measured, size, options.hosts);
  known.frames = measured;
  return measured;
}

void note(Survey& result, const Progress& progress, const std::string& text) {
  progress.say(text);
  result.notes.push_back(text);
}

/// What is odd in frames that are used all the same.
void note_oddities(Survey& result, const std::vector<bool>& comparable, const Progress& progress) {
  std::vector<float> widths;
  for (const FrameSummary& frame : result.summaries)
    if (frame.used && frame.fwhm_px > 0) widths.push_back(static_cast<float>(frame.fwhm_px));
  const double usual = widths.empty() ? 0 : static_cast<double>(median(widths));
  for (const FrameSummary& frame : result.summaries) {
    if (!frame.used || !(frame.fwhm_px > 3 * usual)) continue;
    std::array<char, 120> text{};
    std::snprintf(text.data(), text.size(),
                  ": FWHM %.2f px, over three times the usual %.2f px; used all the same",
                  frame.fwhm_px, usual);
    note(result, progress, frame.name + text.data());
  }
  const auto other = std::ranges::find(comparable, false);
  if (other == comparable.end()) return;
  const Member& member = result.members[static_cast<std::size_t>(other - comparable.begin())];
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "%.3g", static_cast<double>(member.scale[0]));
  const auto name = [&](int index) {
    return result.summaries[static_cast<std::size_t>(index)].name;
  };
  note(result, progress,
       name(member.index) + ": its numbers are " + text.data() +
           " times the others'; the result is in the units of " + name(result.reference));
}

}  // namespace

Measurements::Measurements() = default;
Measurements::~Measurements() = default;

Survey survey(std::span<const InputFrame> frames, const MultiframeOptions& options, bool psf_needed,
              const Progress& progress) {
  Measurements known;
  return survey(frames, {}, known, options, psf_needed, progress);
}

Survey survey(std::span<const InputFrame> frames, const std::vector<std::string>& given_faults,
              Measurements& known, const MultiframeOptions& options, bool psf_needed,
              const Progress& progress) {
  Survey result;
  const int file_channels = usual_channels(frames);
  result.channels = options.luma ? 1 : file_channels;
  std::vector<std::string> faults(frames.size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    faults[i] = frames[i].fault;
    if (faults[i].empty() && !given_faults.empty()) faults[i] = given_faults[i];
    if (faults[i].empty()) {
      readable(frames[i], file_channels, faults[i]);
    }
  }
  std::vector<Measured> measured;
  Reference reference;
  do {
    result.size = common_size(frames, faults);
    measured = measure_all(frames, faults, result.size, known, options, psf_needed, progress);
    reference = judge(measured, frames);
  } while (freed_of_left_out(frames, measured, result.size, faults));
  match_wings(measured);
  for (std::size_t i = 0; i < measured.size(); ++i) {
    FrameSummary summary;
    summary.name = frames[i].name;
    describe(measured[i], summary);
    summary.reason = measured[i].fault;
    summary.used = measured[i].fault.empty();
    if (summary.used) {
      compare(measured[i], measured[reference.index], reference.usual);
      result.widest_fwhm_px = std::max(result.widest_fwhm_px, measured[i].widest_px);
      result.members.push_back(std::move(measured[i].member));
    } else {
      note(result, progress,
           summary.reason.starts_with(summary.name)
               ? "left out: " + summary.reason
               : summary.name + ": left out, " + summary.reason);
    }
    result.summaries.push_back(std::move(summary));
  }
  if (result.members.size() < 2) {
    throw Error(ErrorKind::bad_input,
                std::to_string(result.members.size()) + " of " + std::to_string(frames.size()) +
                    " frames can be used; at least two are needed" +
                    (result.notes.empty() ? "" : ": " + result.notes.front()));
  }
  result.reference = static_cast<int>(reference.index);
  std::vector<bool> comparable;
  for (const Member& member : result.members) comparable.push_back(is_comparable(member));
  refer_to_mean(result.members, comparable);
  match_skies(result.members);
  set_levels(result, comparable);
  note_oddities(result, comparable, progress);
  for (const Member& member : result.members) {
    FrameSummary& summary = result.summaries[static_cast<std::size_t>(member.index)];
    summary.scale = member.scale[0];
    summary.shift_x_px = member.shift_x;
    summary.shift_y_px = member.shift_y;
  }
  return result;
}

}  // namespace limpid::multiframe
