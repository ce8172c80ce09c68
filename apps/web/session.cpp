#include "web/session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>

#include <limpid/stars.h>

#include "web/command_line.h"

namespace limpid::web {
namespace {

using Json = Session::Json;
using Clock = std::chrono::steady_clock;

constexpr int largest_picture_px = 1024;
constexpr int largest_preview_px = 1024;
constexpr std::size_t most_previews = 6;  // of several pages, and one that is being replaced
constexpr std::size_t histogram_pixels = 1000000;
constexpr int histogram_bins = 160;
constexpr float trust_full_scale = 5;  // sigma
constexpr std::size_t most_stars = 1000;

/// The picture as the eye should see it: files may have their last row first.
ConstView upright(ConstView stored, bool bottom_up) {
  if (!bottom_up || stored.empty()) return stored;
  return {stored.data() + (stored.height() - 1) * stored.row_stride(), stored.channels(),
          stored.size(), -stored.row_stride(), stored.channel_stride()};
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string text_of(const Json& request, const char* key) {
  if (!request.is_object() || !request.contains(key) || !request[key].is_string())
    throw Error(ErrorKind::usage, std::string(key) + ": text is wanted");
  return request[key].get<std::string>();
}

bool flag_of(const Json& request, const char* key) {
  if (!request.contains(key)) return false;
  if (!request[key].is_boolean())
    throw Error(ErrorKind::usage, std::string(key) + ": true or false is wanted");
  return request[key].get<bool>();
}

Rect rect_of(const Json& request, const char* key) {
  const bool fits = request.contains(key) && request[key].is_array() && request[key].size() == 4 &&
                    std::ranges::all_of(request[key], [](const Json& item) {
                      return item.is_number_integer() && item >= 0 && item < (1 << 30);
                    });
  if (!fits) throw Error(ErrorKind::usage, std::string(key) + ": four whole numbers are wanted");
  const auto& list = request[key];
  return {list[0].get<int>(), list[1].get<int>(), list[2].get<int>(), list[3].get<int>()};
}

}  // namespace

// ---- what is open ------------------------------------------------------------------------------

struct Session::OpenFrame {
  OpenFrame(std::string own_id, std::string own_name, std::filesystem::path own_path, Frame own,
            int threads)
      : id(std::move(own_id)),
        name(std::move(own_name)),
        path(std::move(own_path)),
        frame(std::move(own)),
        pyramid(upright(frame.image.view(), frame.metadata.bottom_up), 256, threads),
        deconvolver(frame.image.view()) {}

  std::string id, name;
  std::filesystem::path path;
  Frame frame;
  Pyramid pyramid;
  double open_seconds = 0;
  // the worker's own
  Deconvolver deconvolver;
  std::filesystem::path mask_path;
  std::filesystem::file_time_type mask_changed;
  std::optional<Frame> mask;
  // under the session's mutex
  std::shared_ptr<const Json> measurement;

  [[nodiscard]] Size size() const { return frame.image.size(); }
  /// Between rows counted from the top and stored rows; its own inverse.
  [[nodiscard]] Rect turned(Rect r) const {
    if (frame.metadata.bottom_up) r.y = size().height - r.y - r.height;
    return r;
  }
  [[nodiscard]] float turned(float y) const {
    return frame.metadata.bottom_up ? static_cast<float>(size().height - 1) - y : y;
  }
  [[nodiscard]] float turned_angle(float angle) const {
    return frame.metadata.bottom_up ? -angle : angle;
  }

  Stretch stretch(const Look& look) const {
    const std::scoped_lock lock(stretch_mutex_);
    const auto key = std::pair(look.sky, look.linked);
    if (const auto known = stretches_.find(key); known != stretches_.end()) return known->second;
    if (stretches_.size() > 500) stretches_.clear();
    Stretch made = measure_stretch(frame.image.view(), {.sky = look.sky, .linked = look.linked});
    return stretches_.emplace(key, std::move(made)).first->second;
  }

 private:
  mutable std::mutex stretch_mutex_;
  mutable std::map<std::pair<float, bool>, Stretch> stretches_;
};

/// The result of a run over the whole frame.
struct Session::Outcome {
  Outcome(Frame own, Image own_trust_map, int threads)
      : frame(std::move(own)),
        trust_map(std::move(own_trust_map)),
        pyramid(upright(frame.image.view(), frame.metadata.bottom_up), 256, threads) {
    if (!trust_map.empty())
      trust_pyramid.emplace(upright(trust_map.view(), frame.metadata.bottom_up), 256, threads);
  }
  std::string id;
  Frame frame;
  Image trust_map;
  Pyramid pyramid;
  std::optional<Pyramid> trust_pyramid;
  Json options, report;
  std::string model;
};

struct Session::Preview {
  std::string id;
  Rect region;  ///< along stored rows
  Image image;
};

struct Session::Task {
  enum class Kind { run, measure, preview } kind = Kind::run;
  std::shared_ptr<OpenFrame> frame;
  cli::DeconvolveArguments arguments;
  Json options;
  Rect region;
  std::stop_source stop;
  // under the session's mutex
  bool done = false;
  std::exception_ptr failure;
  Json answer;
  double fraction = 0;
  std::string stage;
  Clock::time_point start = Clock::now(), told = start;
};

// ---- life --------------------------------------------------------------------------------------

Session::Session(Folder folder, int threads)
    : folder_(std::move(folder)),
      threads_(threads),
      next_id_(std::random_device{}()),  // so that a browser's cache knows an older server's apart
      worker_([this](const std::stop_token& over) { work(over); }) {}

Session::~Session() { stop(); }

void Session::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopped_ = true;
    drop_waiting("the server ends");
    worker_.request_stop();
  }
  change_.notify_all();
  task_ready_.notify_all();
}

void Session::changed() {
  ++version_;
  change_.notify_all();
}

std::uint64_t Session::wait_for_change(std::uint64_t seen) const {
  std::unique_lock lock(mutex_);
  change_.wait_for(lock, std::chrono::seconds(1), [&] { return version_ != seen || stopped_; });
  return version_;
}

std::string Session::new_id(const char* kind) {
  return std::string(kind) + "-" + std::to_string(next_id_++);
}

std::shared_ptr<Session::OpenFrame> Session::frame() const {
  const std::scoped_lock lock(mutex_);
  if (!frame_) throw Gone("no frame is open");
  return frame_;
}

Json Session::schema() { return deconvolve_schema(); }

Json Session::models() const {
  auto list = Json::array();
  for (const InstalledModel& model : installed_models())
    list.push_back({{"name", model.info.name}, {"steps", model.info.steps}});
  return list;
}

Json Session::state() const {
  const std::scoped_lock lock(mutex_);
  Json state{{"version", version_},
             {"program", LIMPID_VERSION},
             {"folder", folder_.root().string()},
             {"frame", nullptr},
             {"result", nullptr},
             {"job", nullptr},
             {"measured", frame_ && frame_->measurement != nullptr},
             {"error", error_},
             {"notes", notes_}};
  if (frame_) {
    const Metadata& metadata = frame_->frame.metadata;
    const auto scale = pixel_scale_arcsec(metadata);
    state["frame"] = {{"id", frame_->id},
                      {"name", frame_->name},
                      {"width", frame_->size().width},
                      {"height", frame_->size().height},
                      {"channels", frame_->frame.image.channels()},
                      {"levels", frame_->pyramid.levels()},
                      {"format", metadata.format},
                      {"pixel_scale_arcsec", scale ? Json(*scale) : Json(nullptr)},
                      {"seconds", frame_->open_seconds},
                      {"notes", metadata.notes}};
  }
  if (outcome_) {
    state["result"] = {{"id", outcome_->id},
                       {"trust", outcome_->trust_pyramid ? Json("trust-" + outcome_->id) : nullptr},
                       {"options", outcome_->options},
                       {"model", outcome_->model},
                       {"seconds", outcome_->report["seconds"]}};
  }
  if (running_) {
    const char* kinds[] = {"run", "measure", "preview"};
    const double elapsed = seconds_since(running_->start), f = running_->fraction;
    state["job"] = {
        {"kind", kinds[static_cast<int>(running_->kind)]},
        {"fraction", f},
        {"stage", running_->stage},
        {"seconds_left", f > 0.02 && elapsed > 1 ? Json(elapsed * (1 - f) / f) : nullptr}};
  }
  return state;
}

Json Session::open(const std::string& name) {
  const auto path = folder_.file(name);
  const auto start = Clock::now();
  {
    const std::scoped_lock lock(mutex_);
    if (running_ && running_->kind == Task::Kind::run)
      throw Busy("a frame is being worked on; cancel that first");
  }
  Frame read = read_frame(path);
  std::string id;
  {
    const std::scoped_lock lock(mutex_);
    id = new_id("before");
  }
  auto opened = std::make_shared<OpenFrame>(id, name, path, std::move(read), threads_);
  opened->open_seconds = seconds_since(start);
  std::shared_ptr<OpenFrame> old;  // freed without the lock
  std::shared_ptr<const Outcome> old_outcome;
  {
    const std::scoped_lock lock(mutex_);
    if (running_ && running_->kind == Task::Kind::run)
      throw Busy("a frame is being worked on; cancel that first");
    drop_waiting("another frame was opened");
    old = std::exchange(frame_, opened);
    old_outcome = std::exchange(outcome_, nullptr);
    previews_.clear();
    error_ = nullptr;
    notes_.clear();
    changed();
  }
  return state();
}

void Session::close() {
  std::shared_ptr<OpenFrame> old;
  const std::scoped_lock lock(mutex_);
  drop_waiting("the frame was closed");
  old = std::exchange(frame_, nullptr);
  outcome_ = nullptr;
  previews_.clear();
  error_ = nullptr;
  notes_.clear();
  changed();
}

// ---- jobs --------------------------------------------------------------------------------------

Json Session::with_defaults(const Json& request) const {
  if (!request.is_object()) throw Error(ErrorKind::usage, "an object is wanted");
  return request.contains("options") ? request["options"] : Json::object();
}

Json Session::preview(const Json& request) {
  auto task = std::make_shared<Task>();
  task->kind = Task::Kind::preview;
  task->frame = frame();
  task->options = with_defaults(request);
  std::vector<std::string> words{"deconvolve", task->frame->path.string(), "-o", "preview.fits"};
  std::ranges::move(option_words(task->options, folder_), std::back_inserter(words));
  task->arguments = parse_deconvolve(words);
  cli::pipeline_options(task->arguments,
                        threads_);  // what the parser lets through, such as --psf 99
  const Size size = task->frame->size();
  const Rect asked = rect_of(request, "region");
  if (asked.width < 1 || asked.height < 1 || asked.width > largest_preview_px ||
      asked.height > largest_preview_px ||
      intersect(asked, {0, 0, size.width, size.height}) != asked)
    throw Error(ErrorKind::usage, "region: at most 1024 x 1024 px, inside the frame");
  task->region = task->frame->turned(asked);

  std::unique_lock lock(mutex_);
  if (running_ && running_->kind == Task::Kind::run)
    throw Busy("no preview while the whole frame is worked on");
  if (running_ && running_->kind == Task::Kind::preview) running_->stop.request_stop();
  std::erase_if(waiting_, [](const std::shared_ptr<Task>& other) {
    if (other->kind != Task::Kind::preview) return false;
    other->done = true;
    other->failure =
        std::make_exception_ptr(Error(ErrorKind::interrupted, "a newer preview was asked for"));
    return true;
  });
  waiting_.push_front(task);
  task_ready_.notify_all();
  change_.notify_all();
  change_.wait(lock, [&] { return task->done || stopped_; });
  if (task->failure) std::rethrow_exception(task->failure);
  if (!task->done) throw Error(ErrorKind::interrupted, "the server ends");
  return task->answer;
}

void Session::run(const Json& request) {
  auto task = std::make_shared<Task>();
  task->kind = Task::Kind::run;
  task->frame = frame();
  task->options = with_defaults(request);
  std::vector<std::string> words{"deconvolve", task->frame->path.string(), "-o", "result.fits"};
  std::ranges::move(option_words(task->options, folder_), std::back_inserter(words));
  task->arguments = parse_deconvolve(words);
  cli::pipeline_options(task->arguments,
                        threads_);  // what the parser lets through, such as --psf 99
  const std::scoped_lock lock(mutex_);
  const auto is_run = [](const std::shared_ptr<Task>& t) { return t->kind == Task::Kind::run; };
  if ((running_ && is_run(running_)) || std::ranges::any_of(waiting_, is_run))
    throw Busy("a frame is being worked on already");
  if (running_ && running_->kind == Task::Kind::preview) running_->stop.request_stop();
  error_ = nullptr;
  notes_.clear();
  waiting_.push_front(task);
  task_ready_.notify_all();
  changed();
}

void Session::measure() {
  auto task = std::make_shared<Task>();
  task->kind = Task::Kind::measure;
  task->frame = frame();
  const std::scoped_lock lock(mutex_);
  const auto is_measure = [](const std::shared_ptr<Task>& t) {
    return t->kind == Task::Kind::measure;
  };
  if (task->frame->measurement || (running_ && is_measure(running_)) ||
      std::ranges::any_of(waiting_, is_measure))
    return;
  waiting_.push_back(task);
  task_ready_.notify_all();
}

void Session::drop_waiting(const char* why) {
  for (const auto& task : waiting_) {
    task->done = true;
    task->failure = std::make_exception_ptr(Error(ErrorKind::interrupted, why));
  }
  waiting_.clear();
  if (running_) running_->stop.request_stop();
}

void Session::cancel() {
  const std::scoped_lock lock(mutex_);
  drop_waiting("cancelled");
  changed();
}

void Session::forget_result() {
  std::shared_ptr<const Outcome> old;
  const std::scoped_lock lock(mutex_);
  old = std::exchange(outcome_, nullptr);
  changed();
}

void Session::work(const std::stop_token& over) {
  for (;;) {
    std::shared_ptr<Task> task;
    {
      std::unique_lock lock(mutex_);
      task_ready_.wait(lock, [&] { return over.stop_requested() || !waiting_.empty(); });
      if (over.stop_requested()) return;
      task = waiting_.front();
      waiting_.pop_front();
      running_ = task;
      task->start = Clock::now();
      changed();
    }
    std::exception_ptr failure;
    std::string text;
    bool wanted = false;
    try {
      perform(*task);
    } catch (const Error& error) {
      failure = std::current_exception();
      wanted = error.kind() == ErrorKind::interrupted;
      text = error.what();
    } catch (const std::bad_alloc&) {
      failure = std::make_exception_ptr(Error(ErrorKind::exhausted, "out of memory"));
      text = "out of memory";
    } catch (const std::exception& error) {
      failure = std::current_exception();
      text = error.what();
      text = text.substr(0, text.find('\n'));
    }
    const std::scoped_lock lock(mutex_);
    task->failure = failure;
    task->done = true;
    running_ = nullptr;
    if (failure && !wanted && task->kind != Task::Kind::preview)
      error_ = {{"id", next_id_++}, {"text", text}};
    changed();
  }
}

Progress Session::progress_of(const std::shared_ptr<Task>& task) {
  Progress progress;
  progress.stop = task->stop.get_token();
  progress.report = [this, task](double fraction, std::string_view stage) {
    const std::scoped_lock lock(mutex_);
    task->fraction = fraction;
    const bool new_stage = task->stage != stage;
    task->stage = stage;
    if (!new_stage && Clock::now() - task->told < std::chrono::milliseconds(100)) return;
    task->told = Clock::now();
    changed();
  };
  if (task->kind == Task::Kind::run) {
    progress.note = [this](std::string_view text) {
      const std::scoped_lock lock(mutex_);
      notes_.emplace_back(text);
      changed();
    };
  }
  return progress;
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

void Session::perform(Task& task) {
  std::shared_ptr<Task> shared;
  {
    const std::scoped_lock lock(mutex_);
    shared = running_;
  }
  const Progress progress = progress_of(shared);
  progress.throw_if_stopped();
  if (task.kind == Task::Kind::run) return perform_run(task, progress);
  if (task.kind == Task::Kind::preview) return perform_preview(task, progress);
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

void Session::perform_run(Task& task, const Progress& progress) {
  OpenFrame& open = *task.frame;
  const auto loaded = network(task.arguments);
  DeconvolveOptions options = cli::pipeline_options(task.arguments, threads_);
  options.reblur = true;
  if (!task.arguments.mask.empty()) {
    open.mask = read_frame(task.arguments.mask);
    options.mask = open.mask->image.view();
  }
  Deconvolved done = open.deconvolver.run(*loaded, options, progress, [&] {
    return Network::load(find_model(task.arguments.ai), {Device::Kind::cpu, 0});
  });
  auto outcome = std::make_shared<Outcome>(Frame{std::move(done.image), open.frame.metadata},
                                           std::move(done.trust_map), threads_);
  outcome->options = task.options;
  outcome->model = loaded->info().name;
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
  std::shared_ptr<const Outcome> old;
  const std::scoped_lock lock(mutex_);
  outcome->id = new_id("after");
  if (frame_ == task.frame) old = std::exchange(outcome_, std::move(outcome));
}

void Session::perform_preview(Task& task, const Progress& progress) {
  const auto start = Clock::now();
  OpenFrame& open = *task.frame;
  const auto loaded = network(task.arguments);
  DeconvolveOptions options = cli::pipeline_options(task.arguments, threads_);
  options.region = task.region;
  options.check = false;
  if (const auto& path = task.arguments.mask; !path.empty()) {
    const auto changed_at = std::filesystem::last_write_time(path);
    if (!open.mask || open.mask_path != path || open.mask_changed != changed_at) {
      open.mask = read_frame(path);
      open.mask_path = path;
      open.mask_changed = changed_at;
    }
    options.mask = open.mask->image.view();
  }
  Deconvolved done = open.deconvolver.run(*loaded, options, progress, [&] {
    return Network::load(find_model(task.arguments.ai), {Device::Kind::cpu, 0});
  });
  auto preview = std::make_shared<Preview>();
  preview->region = task.region;
  preview->image = std::move(done.image);
  const Rect shown = open.turned(task.region);
  const std::scoped_lock lock(mutex_);
  preview->id = new_id("preview");
  if (frame_ != task.frame) throw Error(ErrorKind::interrupted, "another frame was opened");
  previews_.push_front(preview);
  if (previews_.size() > most_previews) previews_.pop_back();
  task.answer = {{"layer", preview->id},
                 {"region", {shown.x, shown.y, shown.width, shown.height}},
                 {"seconds", seconds_since(start)},
                 {"model", done.report.model},
                 {"device", done.report.device},
                 {"fwhm_px", done.report.fwhm_px},
                 {"fwhm_asked_px", done.report.fwhm_asked_px},
                 {"notes", done.report.notes}};
}

// ---- files -------------------------------------------------------------------------------------

namespace {

/// limpid deconvolve INPUT -o OUTPUT ..., as it goes into the file's history.
std::vector<std::string> words_of(const std::filesystem::path& input,
                                  const std::filesystem::path& output, bool overwrite,
                                  const Json& options, const Folder& folder) {
  std::vector<std::string> words{"limpid", "deconvolve", input.string(), "-o", output.string()};
  if (overwrite) words.emplace_back("--overwrite");
  std::ranges::move(option_words(options, folder), std::back_inserter(words));
  return words;
}

/// Those of the page, which may say how the file is to be written.
Json merged(Json options, const Json& request) {
  if (request.contains("options")) {
    if (!request["options"].is_object())
      throw Error(ErrorKind::usage, "options: an object is wanted");
    options.update(request["options"]);
  }
  return options;
}

}  // namespace

Json Session::command(const Json& request) const {
  const auto open = frame();
  const auto words = words_of(open->path, folder_.target(text_of(request, "name")),
                              flag_of(request, "overwrite"), with_defaults(request), folder_);
  cli::pipeline_options(parse_deconvolve({words.begin() + 1, words.end()}), threads_);
  return {{"command", cli::shell_words(words)}};
}

Json Session::save(const Json& request) {
  const auto open = frame();
  std::shared_ptr<const Outcome> outcome;
  {
    const std::scoped_lock lock(mutex_);
    outcome = outcome_;
  }
  if (!outcome) throw Gone("there is no result to save");
  const auto name = text_of(request, "name");
  const auto path = folder_.target(name);
  if (path == open->path)
    throw Error(ErrorKind::cannot_write, name + ": that is the frame itself; choose another name");
  const bool overwrite = flag_of(request, "overwrite");
  const auto words =
      words_of(open->path, path, overwrite, merged(outcome->options, request), folder_);
  const std::string line = cli::shell_words(words);
  const auto arguments = parse_deconvolve({words.begin() + 1, words.end()});
  const WriteOptions writing{.depth = cli::depth_of(arguments),
                             .overwrite = overwrite,
                             .history = cli::history_line(line, outcome->model)};
  check_writable(path, writing);
  const bool trust = request.contains("what") && request["what"] == "trust";
  if (trust && outcome->trust_map.empty()) throw Gone("there is no trust map to save");
  if (trust) {
    cli::write_trust_map(path, outcome->trust_map.clone(), outcome->frame.metadata, writing);
  } else {
    write_frame(path, outcome->frame, writing);
  }
  Json answer{{"name", name}, {"bytes", std::filesystem::file_size(path)}};
  if (!trust) answer["command"] = line;
  return answer;
}

// ---- pixels ------------------------------------------------------------------------------------

std::vector<std::byte> Session::picture(const std::string& layer, int level, Rect rect,
                                        const Look& look) const {
  std::shared_ptr<OpenFrame> open;
  std::shared_ptr<const Outcome> outcome;
  std::shared_ptr<const Preview> preview;
  {
    const std::scoped_lock lock(mutex_);
    open = frame_, outcome = outcome_;
    const auto found = std::ranges::find(previews_, layer, [](const auto& p) { return p->id; });
    if (found != previews_.end()) preview = *found;
  }
  if (rect.width > largest_picture_px || rect.height > largest_picture_px)
    throw Error(ErrorKind::usage, "pictures are at most 1024 x 1024 px");
  const Pyramid* pyramid = nullptr;
  ConstView shown;
  const bool trust = outcome && layer == "trust-" + outcome->id;
  if (open && layer == open->id) {
    pyramid = &open->pyramid;
  } else if (outcome && layer == outcome->id) {
    pyramid = &outcome->pyramid;
  } else if (trust && outcome->trust_pyramid) {
    pyramid = &*outcome->trust_pyramid;
  } else if (open && preview) {
    shown = upright(preview->image.view(), open->frame.metadata.bottom_up);
  } else {
    throw Gone("no such layer");
  }
  if (pyramid != nullptr) {
    if (level < 0 || level >= pyramid->levels()) throw Gone("no such level");
    shown = pyramid->level(level);
  } else if (level != 0) {
    throw Gone("no such level");
  }
  rect = intersect(rect, {0, 0, shown.width(), shown.height()});
  if (rect.width < 1 || rect.height < 1) throw Gone("nothing lies there");
  const ConstView part = shown.crop(rect);
  return encode_png(
      (trust ? show_differences(part, trust_full_scale) : apply(open->stretch(look), part)).view());
}

Json Session::histogram(const std::string& layer, const Look& look) const {
  std::shared_ptr<OpenFrame> open;
  std::shared_ptr<const Outcome> outcome;
  {
    const std::scoped_lock lock(mutex_);
    open = frame_, outcome = outcome_;
  }
  const Pyramid* pyramid = open && layer == open->id         ? &open->pyramid
                           : outcome && layer == outcome->id ? &outcome->pyramid
                                                             : nullptr;
  if (pyramid == nullptr) throw Gone("no such layer");
  int level = 0;
  while (level + 1 < pyramid->levels() && pyramid->level(level).size().pixels() > histogram_pixels)
    ++level;
  return {{"counts", measure_histogram(apply(open->stretch(look), pyramid->level(level)).view(),
                                       histogram_bins)}};
}

Json Session::pixel(int x, int y) const {
  std::shared_ptr<OpenFrame> open;
  std::shared_ptr<const Outcome> outcome;
  std::shared_ptr<const Preview> preview;
  {
    const std::scoped_lock lock(mutex_);
    open = frame_, outcome = outcome_;
    if (!previews_.empty()) preview = previews_.front();
  }
  if (!open) throw Gone("no frame is open");
  const Size size = open->size();
  if (x < 0 || y < 0 || x >= size.width || y >= size.height)
    throw Error(ErrorKind::usage, "that place lies outside the frame");
  y = open->turned(Rect{x, y, 1, 1}).y;
  const auto values = [&](ConstView view, int vx, int vy) {
    auto list = Json::array();
    for (int c = 0; c < view.channels(); ++c)
      list.push_back(number_or_null(open->frame.metadata.stored(view(c, vy, vx))));
    return list;
  };
  Json answer{{"x", x}, {"y", y}, {"before", values(open->frame.image.view(), x, y)}};
  if (outcome) answer["after"] = values(outcome->frame.image.view(), x, y);
  if (preview) {
    const Rect r = preview->region;
    if (x >= r.x && y >= r.y && x < r.x + r.width && y < r.y + r.height)
      answer["preview"] = values(preview->image.view(), x - r.x, y - r.y);
  }
  return answer;
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
