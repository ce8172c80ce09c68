// The set from its frames to one image: survey, seed, iterations.
#include <limpid/multiframe.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

#include "core/parallel.h"
#include "core/statistics.h"
#include "multiframe/frame_stream.h"
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
  require(o.huber_delta != 0, "huber-delta must not be 0");
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
std::size_t memory_left(std::size_t bound) {
  if (bound == 0) {
    return static_cast<std::size_t>(sysconf(_SC_AVPHYS_PAGES)) / 2 *
           static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  }
  const std::size_t held = resident_bytes();
  return bound > held ? bound - held : 0;
}

/// Kernels reach this many FWHM from their centre: beyond lies under half a per cent of the light
/// of a Moffat with beta 2.5.
constexpr float reach_fwhm = 6;

int native_reach(std::span<const InputFrame> frames, const Survey& survey) {
  int reach = static_cast<int>(std::ceil(reach_fwhm * survey.widest_fwhm_px));
  for (const Member& member : survey.members) {
    const Image& psf = frames[static_cast<std::size_t>(member.index)].psf;
    if (!psf.empty()) reach = std::max(reach, std::max(psf.width(), psf.height()) / 2);
  }
  const int shorter = std::min(survey.size.width, survey.size.height);
  return std::clamp(reach, 8, std::max(8, std::min(64, shorter / 2)));
}

/// Per cell of the grid: kernels of all members and channels, on the fine grid.
std::vector<std::vector<Image>> make_kernels(std::span<const InputFrame> frames,
                                             const Survey& survey, const MultiframeOptions& options,
                                             int reach, const Progress& progress) {
  const int grid = options.psf_grid, side = 2 * reach + 1;
  const int members = static_cast<int>(survey.members.size());
  std::vector<std::vector<Image>> kernels(static_cast<std::size_t>(grid * grid));
  for (int cell = 0; cell < grid * grid; ++cell) {
    progress.throw_if_stopped();
    progress(static_cast<double>(cell) / (grid * grid), "PSFs");
    const float x = (static_cast<float>(cell % grid) + 0.5F) *
                        static_cast<float>(survey.size.width) / static_cast<float>(grid) -
                    0.5F;
    const float y = (static_cast<float>(cell / grid) + 0.5F) *
                        static_cast<float>(survey.size.height) / static_cast<float>(grid) -
                    0.5F;
    auto& row = kernels[static_cast<std::size_t>(cell)];
    row.resize(static_cast<std::size_t>(members * survey.channels));
    parallel_for(static_cast<int>(row.size()), options.threads, [&](int i) {
      const int member_index = i / survey.channels, channel = i % survey.channels;
      if (member_index % options.hosts.count != options.hosts.rank) return;
      const Member& member = survey.members[static_cast<std::size_t>(member_index)];
      const InputFrame& frame = frames[static_cast<std::size_t>(member.index)];
      const auto native = [&](float u, float v) {
        return kernel_at(member, frame, x, y, channel, side, u, v);
      };
      row[static_cast<std::size_t>(i)] =
          options.super_resolution == 1
              ? native(0, 0)
              : lift_kernel(native, {options.super_resolution, options.sr_sigma,
                                     options.sr_psf_iterations});
    });
  }
  return kernels;
}

/// Level under the light that keeps nearly all pixels positive: seven sigmas of the stack, and more
/// where parts of the picture are darker than what was taken for the sky. No pixel can fall below
/// it, so that it also is the depth of the darkest ring: with five sigmas of a frame there were some
/// around all bright stars.
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

/// The given seed in matched units.
Image matched_seed(ConstView given, const Survey& survey, bool luma) {
  const InputFrame as_frame{"the seed", given.size(), given.channels(), 1,
                            [given](Rect rect) { return copy(given.crop(rect)); }};
  require(given.width() >= survey.size.width && given.height() >= survey.size.height,
          "the seed is smaller than the frames");
  Image seed = read_working(as_frame, {0, 0, survey.size.width, survey.size.height}, luma);
  require(seed.channels() == survey.channels, "the seed has another number of channels");
  for (int c = 0; c < seed.channels(); ++c) {
    const auto at = static_cast<std::size_t>(c);
    for (int y = 0; y < seed.height(); ++y) {
      for (float& value : seed.view().row(c, y)) value = (value - survey.sky[at]) / survey.sigma[at];
    }
  }
  return seed;
}

/// Back into the units of the reference frame; pixels that no frame knows become NaN.
Image finished(ConstView estimate, const Survey& survey, double unit, float pedestal, int factor,
               const std::vector<bool>& known) {
  Image image = copy(estimate);
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

Multiframe deconvolve_frames(std::span<const InputFrame> frames, const MultiframeOptions& given,
                             const Progress& progress) {
  check(given);
  MultiframeOptions options = given;
  Multiframe result;
  MultiframeReport& report = result.report;

  auto start = Clock::now();
  const Survey survey = multiframe::survey(frames, options, true, progress.part(0, 0.15));
  report.measure_seconds = seconds_since(start);
  report.size = survey.size;
  report.frames_used = static_cast<int>(survey.members.size());
  report.reference = survey.reference;
  report.frames = survey.summaries;
  report.notes = survey.notes;

  start = Clock::now();
  FrameStream stream(frames, survey, options);
  const std::size_t band_bytes = std::min<std::size_t>(memory_left(options.memory_bytes) / 4,
                                                       std::size_t{256} << 20);
  Image seed = options.seed_image.empty()
                   ? stack(stream, options.seed == Seed::median ? Stack::median : Stack::robust,
                           band_bytes, options.hosts, options.threads, progress.part(0.15, 0.2))
                   : matched_seed(options.seed_image, survey, options.luma);
  const float pedestal = choose_pedestal(seed, survey.members.size());
  stream.set_pedestal(pedestal);
  std::vector<bool> known(seed.pixels().size());
  for (std::size_t i = 0; i < known.size(); ++i) {
    known[i] = !std::isnan(seed.pixels()[i]);
    seed.pixels()[i] = known[i] ? seed.pixels()[i] + pedestal : pedestal;
  }
  report.seed_seconds = seconds_since(start);

  start = Clock::now();
  const int reach = native_reach(frames, survey);
  auto kernels = make_kernels(frames, survey, options, reach, progress.part(0.2, 0.22));
  const int fine_reach = kernels[0].empty() ? reach : reach * options.super_resolution;
  report.kernel_px = 2 * fine_reach + 1;
  options.memory_bytes = memory_left(options.memory_bytes);
  Solver solver(stream, options, std::move(kernels), fine_reach, options.hosts);
  {
    const Image beginning = refine(seed.view(), options.super_resolution);
    seed = {};
    if (options.resume != nullptr) {
      solver.resume(beginning, *options.resume);
    } else {
      solver.begin(beginning);
    }
  }
  const double unit = frames[static_cast<std::size_t>(survey.reference)].unit;
  const auto image_now = [&] {
    return finished(solver.estimate(), survey, unit, pedestal, options.super_resolution, known);
  };
  bool settled = false;
  while (!settled && solver.iterations_done() < options.iterations) {
    const double share = 0.78 / options.iterations;
    const double from = 0.22 + share * solver.iterations_done();
    settled = !solver.iterate(progress.part(from, from + share));
    for (const std::string& note : solver.take_notes()) {
      progress.say(note);
      report.notes.push_back(note);
    }
    if (options.on_iteration) options.on_iteration(solver.history().back());
    const bool first_host = options.hosts.rank == 0;
    if (options.save_state) {
      const MultiframeState state = solver.state();  // all hosts take part
      if (first_host) options.save_state(state);
    }
    if (options.save_iteration && first_host)
      options.save_iteration(solver.iterations_done(), image_now());
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
  report.transform_share = solver.transform_share();
  report.transforms_per_frame = solver.transforms_per_frame();
  report.solve_seconds = seconds_since(start);
  result.image = image_now();
  return result;
}

Image stack_frames(std::span<const InputFrame> frames, bool median, const MultiframeOptions& options,
                   const Progress& progress) {
  check(options);
  const Survey survey = multiframe::survey(frames, options, false, progress.part(0, 0.7));
  const FrameStream stream(frames, survey, options);
  const Image image = stack(stream, median ? Stack::median : Stack::mean, std::size_t{256} << 20,
                            {}, options.threads, progress.part(0.7, 1));
  std::vector<bool> known(image.pixels().size());
  for (std::size_t i = 0; i < known.size(); ++i) known[i] = !std::isnan(image.pixels()[i]);
  return finished(image.view(), survey, frames[static_cast<std::size_t>(survey.reference)].unit, 0, 1,
                  known);
}

}  // namespace limpid
