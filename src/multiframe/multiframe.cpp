// The set from its frames to one image: survey, seed, iterations.
#include <limpid/multiframe.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/parallel.h"
#include "core/statistics.h"
#include "multiframe/accelerator.h"
#include "multiframe/carry_over.h"
#include "multiframe/frame_stream.h"
#include "multiframe/kernels.h"
#include "multiframe/match_seed.h"
#include "multiframe/measure_frame.h"
#include "multiframe/seed.h"
#include "multiframe/solver.h"
#include "multiframe/super_resolution.h"
#include "multiframe/survey.h"

namespace limpid {
namespace {

using namespace multiframe;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void require(bool condition, const std::string& text) {
  if (!condition) throw Error(ErrorKind::usage, text);
}

void check(const MultiframeOptions& o) {
  require(o.kappa > 1, "kappa must be over 1");
  require(o.relax > 0 && o.relax <= 1, "relax must be over 0, and 1 at most");
  require(o.iterations >= 1 && o.min_iterations >= 0, "at least one iteration");
  require(std::isfinite(o.huber_delta) && o.huber_delta != 0,
          "huber-delta must be a number and not 0");
  require(o.reject_sigma >= 0, "reject-sigma must not be below 0");
  require(o.super_resolution >= 1 && o.super_resolution <= 4, "super-resolution is 1, 2, 3 or 4");
  require(o.sr_sigma > 0 && o.sr_psf_iterations >= 1, "sr-sigma and sr-psf-iterations are over 0");
  require(o.psf_grid >= 1 && o.psf_grid <= 32, "psf-grid is 1 to 32");
  require(o.hosts.count == 1 || o.hosts.sum, "several hosts need a sum");
}

/// Bytes that this process holds already.
std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// What may be taken beside what is held.
std::size_t memory_left(std::size_t bound, const Hosts& hosts) {
  if (bound == 0) {
    return static_cast<std::size_t>(sysconf(_SC_AVPHYS_PAGES)) / 2 *
           static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) /
           static_cast<std::size_t>(hosts.on_this_machine);
  }
  const std::size_t held = resident_bytes();
  return bound > held ? bound - held : 0;
}

/// The least of what the hosts have.
std::size_t least_of_all(std::size_t value, const Hosts& hosts) {
  if (hosts.count == 1) return value;
  std::vector<float> values(static_cast<std::size_t>(hosts.count));
  values[static_cast<std::size_t>(hosts.rank)] = static_cast<float>(value);
  hosts.sum(values);
  return static_cast<std::size_t>(*std::ranges::min_element(values));
}

/// Cores that this process may use, shared with others of the set unless it is bound to its own.
int own_threads(const MultiframeOptions& options) {
  if (options.threads != 0 || options.hosts.on_this_machine == 1) return options.threads;
  const int allowed = thread_count(0), all = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return allowed < all ? allowed : std::max(1, all / options.hosts.on_this_machine);
}

/// Level under the light that keeps nearly all pixels positive: seven sigmas of the stack, and more
/// where parts of the picture are darker than what was taken for the sky. No pixel can fall below
/// it, so that it also is the depth of the darkest ring: with five sigmas of a frame there were
/// some around all bright stars.
float choose_pedestal(const Image& seed, std::size_t frames) {
  std::vector<float> sample;
  const auto pixels = seed.pixels();
  const std::size_t step = std::max<std::size_t>(1, pixels.size() / 200000);
  for (std::size_t i = 0; i < pixels.size(); i += step) {
    if (!std::isnan(pixels[i])) sample.push_back(pixels[i]);
  }
  const float least = 7 / std::sqrt(static_cast<float>(frames));
  if (sample.empty()) return least;
  return std::max(least, -quantile_in_place(sample, 0.001));
}

/// The given seed in working channels.
Image read_seed(const MultiframeOptions& options, const Survey& survey) {
  const ConstView given = options.seed_image;
  const auto in_words = [](Size size) {
    return std::to_string(size.width) + " x " + std::to_string(size.height);
  };
  if (given.size() != survey.size) {
    throw Error(ErrorKind::bad_input, options.seed_name + ": " + in_words(given.size()) +
                                          " pixels; the frames have " + in_words(survey.size) +
                                          " in common");
  }
  const InputFrame as_frame{options.seed_name, given.size(), given.channels(), 1,
                            [given](Rect rect) { return copy(given.crop(rect)); }};
  Image seed = read_working(as_frame, {0, 0, survey.size.width, survey.size.height}, options.luma);
  require(seed.channels() == survey.channels, "the seed has another number of channels");
  return seed;
}

/// Without a pixel in any frame there is nothing to solve for.
void require_data(const Image& stack, std::span<const InputFrame> frames) {
  for (int c = 0; c < stack.channels(); ++c) {
    const auto pixels = stack.view().channel(c);
    bool known = false;
    for (int y = 0; y < stack.height() && !known; ++y)
      known = std::ranges::any_of(pixels.row(0, y), [](float v) { return !std::isnan(v); });
    if (known) continue;
    const bool masked =
        std::ranges::any_of(frames, [](const InputFrame& f) { return bool(f.rejected); });
    throw Error(ErrorKind::bad_input,
                masked ? "the rejection masks leave no pixel of any frame: what is over 0.5 in "
                         "them is rejected, 0 is kept"
                       : "no pixel of any frame has data");
  }
}

/// Back into the units of the reference frame; pixels that no frame knows become NaN.
Image finished(Image image, const Survey& survey, double unit, float pedestal, int factor,
               const std::vector<bool>& known) {
  const auto blocks = static_cast<float>(factor * factor);
  std::size_t index = 0;
  for (int c = 0; c < image.channels(); ++c) {
    const auto at = static_cast<std::size_t>(c);
    const auto scale = static_cast<float>(survey.sigma[at] / unit);
    const auto sky = static_cast<float>(survey.sky[at] / unit) / blocks;
    for (int y = 0; y < image.height(); ++y) {
      for (int x = 0; x < image.width(); ++x) {
        float& value = image.view()(c, y, x);
        index = (static_cast<std::size_t>(c) * static_cast<std::size_t>(survey.size.height) +
                 static_cast<std::size_t>(y / factor)) *
                    static_cast<std::size_t>(survey.size.width) +
                static_cast<std::size_t>(x / factor);
        value = known[index] ? (value - pedestal / blocks) * scale + sky
                             : std::numeric_limits<float>::quiet_NaN();
      }
    }
  }
  return image;
}

std::vector<int> indices_of(const Survey& survey) {
  std::vector<int> indices;
  for (const Member& member : survey.members) indices.push_back(member.index);
  return indices;
}

}  // namespace

Multiframe deconvolve_frames(std::span<const InputFrame> frames, const MultiframeOptions& options,
                             const Progress& progress) {
  check(options);
  return multiframe::deconvolve_frames_on(open_accelerator(options.device), frames, options,
                                          progress);
}

namespace {

/// What a run begins with, and what it leaves to the one after it when frames are lost.
struct Beginning {
  std::unique_ptr<Accelerator> accelerator;
  std::vector<std::string> faults;  ///< of the frames that were lost, else empty
  std::vector<int> lost;
  Measurements measured;
  std::optional<Standing> standing;  ///< of the iterations before
  std::vector<std::string> notes;    ///< that the survey does not repeat
  std::size_t solver_bytes = 0;      ///< what may be planned with
  double measure_seconds = 0, seed_seconds = 0, solve_seconds = 0;
};

/// Options that were set and that others leave without a meaning.
std::vector<std::string> unused_options(const MultiframeOptions& o) {
  const MultiframeOptions usual;
  std::vector<std::string> notes;
  const auto tell = [&](const std::string& because, bool first, const char* first_name, bool second,
                        const char* second_name) {
    if (!first && !second) return;
    notes.push_back(because + (first ? first_name : "") + (first && second ? ", " : "") +
                    (second ? second_name : ""));
  };
  if (o.super_resolution == 1) {
    tell("a grid as fine as the frames' leaves unused: ", o.sr_sigma != usual.sr_sigma,
         "--sr-sigma", o.sr_psf_iterations != usual.sr_psf_iterations, "--sr-psf-iterations");
  }
  if (o.loss == Loss::l2) {
    tell("--loss l2 trusts every pixel and leaves unused: ", o.huber_delta != usual.huber_delta,
         "--huber-delta", o.reject_sigma != usual.reject_sigma, "--reject-sigma");
  }
  return notes;
}

void leave_out(Beginning& beginning, std::span<const InputFrame> frames, const FramesLost& lost,
               const std::string& when) {
  for (const LostFrame& frame : lost.frames()) {
    const auto at = static_cast<std::size_t>(frame.index);
    // readers name the file
    const std::string& name = frames[at].name;
    const std::string reason =
        frame.reason.starts_with(name + ": ") ? frame.reason.substr(name.size() + 2) : frame.reason;
    beginning.faults[at] = "became unreadable " + when + ": " + reason;
    beginning.lost.push_back(frame.index);
  }
}

/// The state that the given one, or what was left of the run before, has for this set.
std::optional<MultiframeState> where_it_stood(Beginning& beginning, const Survey& survey,
                                              float pedestal, int reach, int factor,
                                              const Progress& progress) {
  if (!beginning.standing) return std::nullopt;
  auto state = carry_over(*beginning.standing, survey, pedestal, reach, factor);
  beginning.standing.reset();
  if (!state) {
    const std::string text = "the part that all frames cover has changed: iterations begin anew";
    progress.say(text);
    beginning.notes.push_back(text);
  }
  return state;
}

/// Surveys and solves once. Throws FramesLost, with all that is needed left in `beginning`.
Multiframe run(std::span<const InputFrame> frames, const MultiframeOptions& given,
               const MultiframeState* resumed, Beginning& beginning, const Progress& progress) {
  MultiframeOptions options = given;
  Multiframe result;
  MultiframeReport& report = result.report;

  auto start = Clock::now();
  const Survey survey = multiframe::survey(frames, beginning.faults, beginning.measured, options,
                                           true, progress.part(0, 0.15));
  beginning.measure_seconds += seconds_since(start);
  report.size = survey.size;
  report.frames_used = static_cast<int>(survey.members.size());
  report.reference = survey.reference;
  report.frames = survey.summaries;

  start = Clock::now();
  FrameStream stream(frames, survey, options);
  // every host must cut the same bands
  const std::size_t band_bytes =
      std::min(least_of_all(memory_left(options.memory_bytes, options.hosts) / 4, options.hosts),
               std::size_t{256} << 20);
  Image given_seed;  // refused before there is work
  if (!options.seed_image.empty()) given_seed = read_seed(options, survey);
  Image seed = [&] {
    try {
      return stack(stream, options.seed == Seed::median ? Stack::median : Stack::robust, band_bytes,
                   options.hosts, options.threads, progress.part(0.15, 0.2));
    } catch (const FramesLost& lost) {
      leave_out(beginning, frames, lost, "while the seed was made");
      throw;
    }
  }();
  require_data(seed, frames);
  if (!given_seed.empty())
    seed = match_seed(std::move(given_seed), seed, survey, options.seed_name);
  const float pedestal = choose_pedestal(seed, survey.members.size());
  stream.set_pedestal(pedestal);
  std::vector<bool> known(seed.pixels().size());
  for (std::size_t i = 0; i < known.size(); ++i) {
    known[i] = !std::isnan(seed.pixels()[i]);
    seed.pixels()[i] += pedestal;
  }
  beginning.seed_seconds += seconds_since(start);

  start = Clock::now();
  const int reach = native_reach(frames, survey);
  auto kernels = make_kernels(frames, survey, options, reach, progress.part(0.2, 0.22));
  const int fine_reach = kernels[0].empty() ? reach : reach * options.super_resolution;
  report.kernel_px = 2 * fine_reach + 1;
  // what an earlier solver has given back is there for this one, though the system does not see it
  if (beginning.solver_bytes == 0)
    beginning.solver_bytes = memory_left(options.memory_bytes, options.hosts);
  options.memory_bytes = beginning.solver_bytes;
  Solver solver(stream, options, std::move(kernels), fine_reach, std::move(beginning.accelerator));
  const auto save_state = [&] {
    // of what is saved all hosts make a part
    if (!options.save_state) return;
    MultiframeState state = solver.state();
    state.lost = beginning.lost;
    if (options.hosts.rank == 0) options.save_state(state);
  };
  {
    Image first = refine(seed.view(), options.super_resolution);
    seed = {};
    const auto stood =
        where_it_stood(beginning, survey, pedestal, fine_reach, options.super_resolution, progress);
    if (stood || resumed != nullptr) {
      solver.resume(std::move(first), stood ? *stood : *resumed);
    } else {
      solver.begin(std::move(first));
    }
    // so that a run that ends before the next iteration can be taken up without the lost frame
    if (stood) save_state();
  }
  const double unit = frames[static_cast<std::size_t>(survey.reference)].unit;
  const auto image_now = [&] {
    return finished(solver.result(), survey, unit, pedestal, options.super_resolution, known);
  };
  const auto tell = [&](const std::string& note) {
    progress.say(note);
    beginning.notes.push_back(note);
  };
  bool settled = false;
  while (!settled && solver.iterations_done() < options.iterations) {
    const double share = 0.78 / options.iterations;
    const double from = 0.22 + share * solver.iterations_done();
    try {
      settled = !solver.iterate(progress.part(from, from + share));
    } catch (const FramesLost& lost) {
      leave_out(beginning, frames, lost,
                "in iteration " + std::to_string(solver.iterations_done() + 1));
      std::ranges::for_each(solver.take_notes(), tell);
      if (solver.iterations_done() > 0)
        beginning.standing = {solver.state(), survey, pedestal, fine_reach};
      beginning.accelerator = solver.take_accelerator();
      beginning.solve_seconds += seconds_since(start);
      throw;
    }
    std::ranges::for_each(solver.take_notes(), tell);
    if (options.on_iteration) options.on_iteration(solver.history().back());
    save_state();
    if (options.save_iteration) {
      const Image image = image_now();
      if (options.hosts.rank == 0)
        options.save_iteration(solver.iterations_done(), image, survey.reference);
    }
  }
  solver.summarise(report.frames, indices_of(survey));
  report.stopped_early = settled && solver.iterations_done() < options.iterations;
  report.iterations = solver.history();
  const WorkPlan& plan = solver.plan();
  report.tiles = static_cast<int>(plan.tiles.size());
  report.tile = plan.transform;
  report.frames_at_once = plan.frames_at_once;
  report.frames_in_memory = plan.keep_frames;
  report.memory_bytes = plan.bytes;
  report.device = solver.device();
  report.transform_share = solver.transform_share();
  report.transforms_per_frame = solver.transforms_per_frame();
  result.image = image_now();
  report.notes = survey.notes;
  report.notes.insert(report.notes.end(), beginning.notes.begin(), beginning.notes.end());
  report.measure_seconds = beginning.measure_seconds;
  report.seed_seconds = beginning.seed_seconds;
  report.solve_seconds = beginning.solve_seconds + seconds_since(start);
  return result;
}

}  // namespace

Multiframe multiframe::deconvolve_frames_on(std::unique_ptr<Accelerator> accelerator,
                                            std::span<const InputFrame> frames,
                                            const MultiframeOptions& given,
                                            const Progress& progress) {
  check(given);
  MultiframeOptions options = given;
  options.threads = own_threads(given);
  Beginning beginning;
  beginning.accelerator = std::move(accelerator);
  beginning.faults.resize(frames.size());
  const MultiframeState* resumed = options.resume;
  if (resumed != nullptr) {
    beginning.lost = resumed->lost;
    for (const int index : resumed->lost) {
      require(index >= 0 && static_cast<std::size_t>(index) < frames.size(),
              "the checkpoint is of another set or other options");
      beginning.faults[static_cast<std::size_t>(index)] =
          "became unreadable before the run was taken up again";
    }
  }
  // a second survey says again what the first one has said
  std::vector<std::string> said;
  Progress telling = progress;
  telling.note = [&](std::string_view text) {
    if (std::ranges::find(said, text) != said.end()) return;
    said.emplace_back(text);
    progress.say(text);
  };
  beginning.notes = unused_options(options);
  std::ranges::for_each(beginning.notes, [&](const std::string& note) { telling.say(note); });
  for (;;) {
    try {
      return run(frames, options, resumed, beginning, telling);
    } catch (const FramesLost&) {
      // What was measured of the others stays; they are compared and solved for without the lost. A
      // checkpoint of all tells nothing about them before their stack is made.
      if (resumed != nullptr && !beginning.standing) {
        beginning.notes.emplace_back("the checkpoint is of more frames: iterations begin anew");
        telling.say(beginning.notes.back());
      }
      resumed = nullptr;
    }
  }
}

Image stack_frames(std::span<const InputFrame> frames, Stacking stacking,
                   const MultiframeOptions& options, const Progress& progress) {
  check(options);
  const Survey survey = multiframe::survey(frames, options, false, progress.part(0, 0.7));
  const FrameStream stream(frames, survey, options);
  const Stack kind = stacking == Stacking::median    ? Stack::median
                     : stacking == Stacking::clipped ? Stack::clipped
                                                     : Stack::mean;
  Image image =
      stack(stream, kind, std::size_t{256} << 20, {}, options.threads, progress.part(0.7, 1));
  std::vector<bool> known(image.pixels().size());
  for (std::size_t i = 0; i < known.size(); ++i) known[i] = !std::isnan(image.pixels()[i]);
  return finished(std::move(image), survey, frames[static_cast<std::size_t>(survey.reference)].unit,
                  0, 1, known);
}

}  // namespace limpid
