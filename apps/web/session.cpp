#include "web/session.h"

#include <algorithm>
#include <random>

#include "web/command_line.h"
#include "web/parts.h"

namespace limpid::web {

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string text_of(const Json& request, const char* key) {
  if (!request.is_object() || !request.contains(key) || !request[key].is_string())
    throw Error(ErrorKind::usage, std::string(key) + ": text is wanted");
  return request[key].get<std::string>();
}

std::string text_of(const Json& request, const char* key, const char* otherwise) {
  return request.is_object() && !request.contains(key) ? otherwise : text_of(request, key);
}

bool flag_of(const Json& request, const char* key) {
  if (!request.contains(key)) return false;
  if (!request[key].is_boolean())
    throw Error(ErrorKind::usage, std::string(key) + ": true or false is wanted");
  return request[key].get<bool>();
}

Json options_of(const Json& request) {
  if (!request.is_object()) throw Error(ErrorKind::usage, "an object is wanted");
  if (!request.contains("options")) return Json::object();
  if (!request["options"].is_object())
    throw Error(ErrorKind::usage, "options: an object is wanted");
  return request["options"];
}

// ---- what is open ------------------------------------------------------------------------------

ConstView upright(ConstView stored, bool bottom_up) {
  if (!bottom_up || stored.empty()) return stored;
  return {stored.data() + (stored.height() - 1) * stored.row_stride(), stored.channels(),
          stored.size(), -stored.row_stride(), stored.channel_stride()};
}

Rect Session::OpenFrame::turned(Rect r) const {
  if (frame.metadata.bottom_up) r.y = size().height - r.y - r.height;
  return r;
}

float Session::OpenFrame::turned(float y) const {
  return frame.metadata.bottom_up ? static_cast<float>(size().height - 1) - y : y;
}

float Session::OpenFrame::turned_angle(float angle) const {
  return frame.metadata.bottom_up ? -angle : angle;
}

Sampling Session::OpenFrame::places(int level, Rect rect) const {
  const double step = static_cast<double>(1 << level);
  Sampling places{.x = (rect.x + 0.5) * step - 0.5,
                  .y = (rect.y + 0.5) * step - 0.5,
                  .step_x = step,
                  .step_y = step};
  if (frame.metadata.bottom_up) {
    places.y = size().height - 1 - places.y;
    places.step_y = -step;
  }
  return places;
}

Stretch Session::OpenFrame::stretch(const Look& look) const {
  const std::scoped_lock lock(stretch_mutex_);
  const auto key = std::pair(look.sky, look.linked);
  if (const auto known = stretches_.find(key); known != stretches_.end()) return known->second;
  if (stretches_.size() > 500) stretches_.clear();
  Stretch made = measure_stretch(frame.image.view(), {.sky = look.sky, .linked = look.linked});
  return stretches_.emplace(key, std::move(made)).first->second;
}

ConstView Session::OpenFrame::mask_at(const std::filesystem::path& file) {
  if (file.empty()) return {};
  const auto changed_at = std::filesystem::last_write_time(file);
  if (!mask || mask_path != file || mask_changed != changed_at) {
    mask = read_frame(file);
    mask_path = file;
    mask_changed = changed_at;
  }
  return mask->image.view();
}

Session::Outcome::Outcome(std::string own_command, Frame own, Image own_trust_map, int threads)
    : command(std::move(own_command)),
      frame(std::move(own)),
      trust_map(std::move(own_trust_map)),
      pyramid(upright(frame.image.view(), frame.metadata.bottom_up), 256, threads) {
  if (!trust_map.empty())
    trust_pyramid.emplace(upright(trust_map.view(), frame.metadata.bottom_up), 256, threads);
}

Session::Preview::Preview(Rect own_region, Image own, bool bottom_up, int threads)
    : region(own_region),
      image(std::move(own)),
      pyramid(upright(image.view(), bottom_up), 64, threads) {}

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
    stop_loading_.request_stop();
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
  std::unique_lock lock(mutex_);
  change_.wait(lock, [&] { return !glance_ || stopped_; });
  if (!frame_) throw Gone("no frame is open");
  return frame_;
}

Json Session::schema(const std::string& command) { return schema_of(command); }

Json Session::models() const {
  auto list = Json::array();
  for (const InstalledModel& model : installed_models())
    list.push_back({{"name", model.info.name}, {"steps", model.info.steps}});
  return list;
}

namespace {

/// Without what the sky is beyond its spline, which is long; a state is told often.
Json told_options(Json options) {
  if (options.contains("points")) options["points"].erase("correction");
  return options;
}

}  // namespace

Json Session::state() const {
  const std::scoped_lock lock(mutex_);
  Json state{{"version", version_},
             {"program", LIMPID_VERSION},
             {"folder", folder_.root().string()},
             {"frame", nullptr},
             {"result", nullptr},
             {"sky", nullptr},
             {"combination", nullptr},
             {"job", nullptr},
             {"measured", frame_ && frame_->measurement != nullptr},
             {"error", error_},
             {"notes", notes_}};
  if (frame_) state["frame"] = frame_->described();
  if (glance_) state["frame"] = glance_->described();
  if (outcome_) {
    state["result"] = {{"id", outcome_->id},
                       {"command", outcome_->command},
                       {"trust", outcome_->trust_pyramid ? Json("trust-" + outcome_->id) : nullptr},
                       {"options", told_options(outcome_->options)},
                       {"model", outcome_->model},
                       {"seconds", outcome_->seconds}};
  }
  if (!skies_.empty()) state["sky"] = {{"id", skies_.front()->id}};
  if (combination_) {
    state["combination"] = {{"id", combination_->id},
                            {"output", combination_->output},
                            {"iterations", combination_->iterations.size()},
                            {"done", combination_->report != nullptr}};
  }
  if (running_) {
    const char* kinds[] = {"run", "measure", "preview", "fit", "combine"};
    const double elapsed = seconds_since(running_->start), f = running_->fraction;
    state["job"] = {
        {"kind", kinds[static_cast<int>(running_->kind)]},
        {"command", running_->command},
        {"fraction", f},
        {"stage", running_->stage},
        {"seconds_left", f > 0.02 && elapsed > 1 ? Json(elapsed * (1 - f) / f) : nullptr}};
  }
  return state;
}

void Session::forget_result() {
  std::shared_ptr<const Outcome> old;
  const std::scoped_lock lock(mutex_);
  old = std::exchange(outcome_, nullptr);
  changed();
}

}  // namespace limpid::web
