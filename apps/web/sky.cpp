// `limpid background`: the sky fitted while its options change, and taken out of the whole frame.
#include <limpid/background.h>

#include "web/command_line.h"
#include "web/parts.h"

namespace limpid::web {
namespace {

constexpr std::size_t most_skies = 4;  // of several pages, and one that is being replaced

/// The options that decide the model; the others decide what is done with it.
std::string model_options(const cli::BackgroundArguments& arguments, Json options) {
  for (const char* later : {"mode", "neutral", "dither", "depth"}) options.erase(later);
  std::string text = options.dump();
  if (!arguments.mask.empty()) {
    const auto changed = std::filesystem::last_write_time(arguments.mask).time_since_epoch();
    text += std::to_string(changed.count());
  }
  return text;
}

Json report_of(const Background& background, const RemoveReport& removed,
               const std::filesystem::path& path) {
  Json report = cli::to_json(cli::Job{path, {}}, background, removed);
  auto curve = Json::array();
  for (const float loss : background.report().curve) curve.push_back(cli::shortest(loss));
  report["curve"] = std::move(curve);
  return report;
}

}  // namespace

cli::BackgroundArguments Session::background_arguments(const OpenFrame& open,
                                                       const Json& options) const {
  const auto words = words_of("background", {open.path}, "result.fits", false, options);
  if (options.contains("points")) static_cast<void>(points_by_hand(options, open.size()));
  return parse_background({words.begin() + 1, words.end()});
}

Json Session::fit_sky(const Json& request) {
  auto task = std::make_shared<Task>();
  task->kind = Task::Kind::fit;
  task->frame = frame();
  task->options = options_of(request);
  task->background = background_arguments(*task->frame, task->options);
  return wait_for(task);
}

std::shared_ptr<const Session::Sky> Session::sky_of(Task& task, const Progress& progress) {
  OpenFrame& open = *task.frame;
  auto sky = std::make_shared<Sky>();
  sky->options = task.options;
  sky->rests_on = model_options(task.background, task.options);
  sky->removal = cli::remove_options(task.background, threads_);
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& known : skies_) {
      if (known->rests_on == sky->rests_on) sky->background = known->background;
    }
  }
  if (!sky->background) {
    BackgroundOptions fit = cli::fit_options(task.background, threads_);
    fit.mask = open.mask_at(task.background.mask);
    cli::SavedPoints by_hand;
    if (task.options.contains("points")) {
      by_hand = points_by_hand(task.options, open.size());
      for (auto* list : {&by_hand.points, &by_hand.removed}) {
        for (ControlPoint& point : *list) point.y = open.turned(point.y);
      }
      cli::use_points(fit, by_hand, false);
    }
    sky->background = std::make_shared<const Background>(open.fitter.fit(fit, progress));
  }
  // what cannot be divided is refused here
  static_cast<void>(without_background(open.frame.image.view().crop({0, 0, 1, 1}), *sky->background,
                                       {}, sky->removal));
  const std::scoped_lock lock(mutex_);
  sky->id = new_id("sky");
  if (frame_ != task.frame) throw Error(ErrorKind::interrupted, "another frame was opened");
  skies_.push_front(sky);
  if (skies_.size() > most_skies) skies_.pop_back();
  changed();
  return sky;
}

void Session::perform_fit(Task& task, const Progress& progress) {
  task.answer = {{"id", sky_of(task, progress)->id}};
}

void Session::perform_background(Task& task, const Progress& progress) {
  const auto start = Clock::now();
  OpenFrame& open = *task.frame;
  const auto sky = sky_of(task, progress.part(0, 0.8));
  for (const std::string& note : sky->background->report().notes) progress.say(note);
  Frame frame{open.frame.image.clone(), open.frame.metadata};
  const RemoveReport removed =
      remove_background(frame.image.view(), *sky->background, sky->removal);
  progress(0.9, "taking the sky out");
  auto outcome = std::make_shared<Outcome>("background", std::move(frame), Image(), threads_);
  outcome->options = task.options;
  outcome->background = sky->background;
  outcome->report = report_of(*sky->background, removed, open.path);
  outcome->seconds = seconds_since(start);
  keep(task, outcome);
}

Json Session::sky() const {
  std::shared_ptr<OpenFrame> open;
  std::shared_ptr<const Sky> sky;
  {
    const std::scoped_lock lock(mutex_);
    open = frame_;
    if (!skies_.empty()) sky = skies_.front();
  }
  if (!open || !sky) throw Gone("no sky was fitted yet");
  const Background& background = *sky->background;
  Json report = report_of(background, {.level = background.report().level}, open->path);
  for (const char* of_result : {"input", "output", "pixels_below_zero", "pixels_above_one"})
    report.erase(of_result);
  for (Json& point : report["control_points"]["points"])
    point["y"] = open->turned(point["y"].get<float>());
  const Size small = background.fitted_mask().size();
  const int factor = background.report().downscale;
  const Rect covered = open->turned(Rect{0, 0, small.width * factor, small.height * factor});
  report["id"] = sky->id;
  report["options"] = sky->options;
  report["mask_region"] = {covered.x, covered.y, covered.width, covered.height};
  return report;
}

std::vector<std::byte> Session::sky_mask(const std::string& layer) const {
  std::shared_ptr<OpenFrame> open;
  std::shared_ptr<const Sky> sky;
  {
    const std::scoped_lock lock(mutex_);
    open = frame_;
    for (const auto& known : skies_) {
      if (known->id == layer) sky = known;
    }
  }
  if (!open || !sky) throw Gone("no such layer");
  return encode_png(upright(sky->background->fitted_mask().view(), open->frame.metadata.bottom_up));
}

}  // namespace limpid::web
