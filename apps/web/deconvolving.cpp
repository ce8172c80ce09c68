// `limpid deconvolve` and `limpid measure`: what the page shows of them.
#include <algorithm>
#include <cstdio>

#include "cli/measure.h"
#include "web/command_line.h"
#include "web/parts.h"

namespace limpid::web {
namespace {

constexpr int largest_preview_px = 1024;
constexpr int rough_part_px = 1024;  // around the view: stars enough for a PSF, measured quickly
constexpr std::size_t most_previews = 10;  // of several pages, and to go back to
constexpr std::size_t most_stars = 1000;

Rect rect_of(const Json& request, const char* key) {
  const bool fits = request.contains(key) && request[key].is_array() && request[key].size() == 4 &&
                    std::ranges::all_of(request[key], [](const Json& item) {
                      return item.is_number_integer() && item >= 0 && item < (1 << 30);
                    });
  if (!fits) throw Error(ErrorKind::usage, std::string(key) + ": four whole numbers are wanted");
  const auto& list = request[key];
  return {list[0].get<int>(), list[1].get<int>(), list[2].get<int>(), list[3].get<int>()};
}

/// What a Deconvolver keeps rests on these options: while they stay, a run is quick.
std::string foundation(const DeconvolveOptions& o) {
  std::array<char, 200> text{};
  std::snprintf(text.data(), text.size(), "%d %d %d %d %a %a %d %a", o.no_stars, o.luminance_only,
                o.correct_first && !o.correct_only, o.nonstellar_then_stellar && !o.correct_only,
                static_cast<double>(o.nonstellar_then_stellar ? o.sharpen_nonstellar : 0),
                static_cast<double>(o.psf_fwhm_px.value_or(0)), o.tile_px,
                static_cast<double>(o.overlap));
  return text.data();
}

/// `side` pixels and more around a region, within a frame.
Rect around(Rect region, int side, Size frame) {
  const auto range = [side](int from, int length, int whole) {
    const int wanted = std::min(whole, std::max(side, length));
    return std::pair(std::clamp(from + length / 2 - wanted / 2, 0, whole - wanted), wanted);
  };
  const auto [x, width] = range(region.x, region.width, frame.width);
  const auto [y, height] = range(region.y, region.height, frame.height);
  return {x, y, width, height};
}

bool holds(Rect outer, Rect inner) { return intersect(outer, inner) == inner; }

}  // namespace

cli::DeconvolveArguments Session::deconvolve_arguments(const OpenFrame& open,
                                                       const Json& options) const {
  const auto words = words_of("deconvolve", {open.path}, "result.fits", false, options);
  auto arguments = parse_deconvolve({words.begin() + 1, words.end()});
  // what the parser lets through, such as --psf 99
  static_cast<void>(cli::pipeline_options(arguments, threads_));
  return arguments;
}

Json Session::preview(const Json& request) {
  auto task = std::make_shared<Task>();
  task->kind = Task::Kind::preview;
  task->frame = frame();
  task->options = options_of(request);
  task->deconvolve = deconvolve_arguments(*task->frame, task->options);
  task->rough = flag_of(request, "rough");
  const Size size = task->frame->size();
  const Rect asked = rect_of(request, "region");
  if (asked.width < 1 || asked.height < 1 || asked.width > largest_preview_px ||
      asked.height > largest_preview_px || !holds({0, 0, size.width, size.height}, asked))
    throw Error(ErrorKind::usage, "region: at most 1024 x 1024 px, inside the frame");
  task->region = task->frame->turned(asked);
  task->made_by = preview_made_by(*task);
  {
    const std::scoped_lock lock(mutex_);
    refuse_during_run();
    if (const auto known = known_preview(*task)) {
      drop_shown();
      return known->answer;
    }
  }
  return wait_for(task);
}

std::string Session::preview_made_by(const Task& task) const {
  const cli::DeconvolveArguments& arguments = task.deconvolve;
  std::string text = task.frame->id + '\n' + find_model(arguments.ai).string() + '\n' +
                     cli::shell_words(words_of("deconvolve", {}, "", false, task.options));
  if (!arguments.mask.empty()) {
    const auto changed = std::filesystem::last_write_time(arguments.mask).time_since_epoch();
    text += '\n' + std::to_string(changed.count());
  }
  return text;
}

std::shared_ptr<const Session::Preview> Session::known_preview(const Task& task) {
  const auto known = std::ranges::find_if(previews_, [&](const auto& preview) {
    return preview->made_by == task.made_by &&
           (task.rough ? holds(preview->region, task.region) : preview->region == task.region);
  });
  if (known == previews_.end()) return nullptr;
  std::rotate(previews_.begin(), known, known + 1);  // the read-out is of the newest
  return previews_.front();
}

std::shared_ptr<const Network> Session::network(const cli::DeconvolveArguments& arguments) {
  const auto path = find_model(arguments.ai);
  const std::string key = path.string() + '\n' + arguments.device + '\n' + arguments.precision;
  if (key != network_key_) {
    network_ = std::make_shared<const Network>(
        Network::load(path, Device::parse(arguments.device), parse_precision(arguments.precision)));
    network_key_ = key;
  }
  return network_;
}

void Session::perform_preview(Task& task, const Progress& progress) {
  const auto start = Clock::now();
  OpenFrame& open = *task.frame;
  const ConstView frame = open.frame.image.view();
  const auto loaded = network(task.deconvolve);
  DeconvolveOptions options = cli::pipeline_options(task.deconvolve, threads_);
  options.region = task.region;
  options.check = false;
  options.mask = open.mask_at(task.deconvolve.mask);
  if (!options.mask.empty() && options.mask.size() != frame.size()) task.rough = false;

  const std::string rests_on = foundation(options);
  const bool known = open.exact == rests_on;
  const Rect part = around(task.region, rough_part_px, frame.size());
  // a frame that is hardly larger is measured as quickly
  const bool by_part = task.rough && !known && 2 * part.size().pixels() < frame.size().pixels();
  const bool rough = by_part || (task.rough && known);
  Deconvolver* deconvolver = &open.deconvolver;
  if (by_part) {
    if (!open.part_deconvolver || !holds(open.part, task.region)) {
      open.part = part;
      open.part_deconvolver.emplace(frame.crop(part));
    }
    options.region->x -= open.part.x;
    options.region->y -= open.part.y;
    if (!options.mask.empty()) options.mask = options.mask.crop(open.part);
    deconvolver = &*open.part_deconvolver;
  }
  if (rough) options.request_stars = std::min(0.7F, open.request_ratio * options.sharpen_stars);
  Deconvolved done = deconvolver->run(*loaded, options, progress, [&] {
    return Network::load(find_model(task.deconvolve.ai), {Device::Kind::cpu, 0});
  });
  if (!rough) {
    open.exact = rests_on;
    if (options.sharpen_stars > 0 && done.report.sharpen_stars_requested > 0)
      open.request_ratio =
          static_cast<float>(done.report.sharpen_stars_requested) / options.sharpen_stars;
  }

  auto preview = std::make_shared<Preview>(task.region, std::move(done.image),
                                           open.frame.metadata.bottom_up, threads_);
  const Rect shown = open.turned(task.region);
  const std::scoped_lock lock(mutex_);
  preview->id = new_id("preview");
  if (frame_ != task.frame) throw Error(ErrorKind::interrupted, "another frame was opened");
  if (task.stop.stop_requested()) throw Error(ErrorKind::interrupted, "a newer one was asked for");
  previews_.push_front(preview);
  if (previews_.size() > most_previews) previews_.pop_back();
  task.answer = {{"layer", preview->id},
                 {"region", {shown.x, shown.y, shown.width, shown.height}},
                 {"levels", preview->pyramid.levels()},
                 {"rough", rough},
                 {"seconds", seconds_since(start)},
                 {"network_seconds", done.report.network_seconds},
                 {"model", done.report.model},
                 {"device", done.report.device},
                 {"fwhm_px", done.report.fwhm_px},
                 {"fwhm_asked_px", done.report.fwhm_asked_px},
                 {"notes", done.report.notes}};
  if (!rough) preview->made_by = task.made_by;
  preview->answer = task.answer;
}

void Session::perform_deconvolve(Task& task, const Progress& progress) {
  OpenFrame& open = *task.frame;
  const auto loaded = network(task.deconvolve);
  DeconvolveOptions options = cli::pipeline_options(task.deconvolve, threads_);
  options.reblur = options.trust_map = true;
  options.mask = open.mask_at(task.deconvolve.mask);
  Deconvolved done = open.deconvolver.run(*loaded, options, progress, [&] {
    return Network::load(find_model(task.deconvolve.ai), {Device::Kind::cpu, 0});
  });
  auto outcome =
      std::make_shared<Outcome>("deconvolve", Frame{std::move(done.image), open.frame.metadata},
                                std::move(done.trust_map), threads_);
  outcome->options = task.options;
  outcome->model = loaded->info().name;
  outcome->seconds = done.report.seconds;
  outcome->report = cli::to_json(cli::Job{open.path, {}}, done.report);
  auto stars = Json::array();
  if (done.report.trust) {
    for (const StarChange& star : done.report.trust->stars) {
      stars.push_back({{"x", cli::shortest(star.x)},
                       {"y", cli::shortest(open.turned(star.y))},
                       {"flux_before", star.flux_before},
                       {"flux_after", star.flux_after},
                       {"fwhm_before_px", star.fwhm_before_px},
                       {"fwhm_after_px", star.fwhm_after_px},
                       {"centroid_shift_px", star.centroid_shift_px},
                       {"ellipticity_after", star.ellipticity_after}});
    }
  }
  outcome->report["list"] = std::move(stars);
  if (outcome->report.contains("reblurring")) {
    for (Json& tile : outcome->report["reblurring"]["doubtful_tiles"])
      tile["y"] = open.turned(Rect{0, tile["y"].get<int>(), 0, tile["height"].get<int>()}).y;
  }
  keep(task, outcome);
}

void Session::perform_measure(Task& task, const Progress& progress) {
  OpenFrame& open = *task.frame;
  const ConstView pixels = open.frame.image.view();
  auto measured = cli::measure_frame(pixels, {.threads = threads_}, progress);
  measured.pixel_scale = pixel_scale_arcsec(open.frame.metadata);
  Json json = cli::to_json(measured);
  for (Json& cell : json["field"]["cells"]) {
    cell["y"] = open.turned(cell["y"].get<float>());
    cell["angle_rad"] = open.turned_angle(cell["angle_rad"].get<float>());
  }
  auto stars = Json::array();
  for (const Star& star : measured.catalogue.stars) {
    if (star.fits.empty() || star.fwhm_px <= 0 || stars.size() >= most_stars) continue;
    stars.push_back({{"x", cli::shortest(star.x)},
                     {"y", cli::shortest(open.turned(star.y))},
                     {"flux", cli::shortest(star.flux)},
                     {"snr", cli::shortest(star.snr)},
                     {"fwhm_px", cli::shortest(star.fwhm_px)},
                     {"ellipticity", cli::shortest(star.ellipticity)},
                     {"saturated", star.saturated}});
  }
  json["list"] = std::move(stars);
  auto profiles = Json::array();
  for (int c = 0; c < pixels.channels(); ++c) {
    auto profile = Json::array();
    for (const RadialPoint& point : measure_radial_profile(pixels, measured.catalogue, c))
      profile.push_back({cli::shortest(point.radius_px), cli::shortest(point.light)});
    profiles.push_back(std::move(profile));
  }
  json["profiles"] = std::move(profiles);
  const std::scoped_lock lock(mutex_);
  open.measurement = std::make_shared<const Json>(std::move(json));
}

Json Session::measurement() const {
  const std::scoped_lock lock(mutex_);
  if (!frame_ || !frame_->measurement) throw Gone("the frame was not measured yet");
  return *frame_->measurement;
}

Json Session::report() const {
  const std::scoped_lock lock(mutex_);
  if (!outcome_) throw Gone("there is no result");
  return outcome_->report;
}

}  // namespace limpid::web
