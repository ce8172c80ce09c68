// What is open: a frame, or at first a glance at one that is large.
#include <algorithm>
#include <random>

#include "cli/failure.h"
#include "web/parts.h"

namespace limpid::web {
namespace {

constexpr std::size_t large_samples = 40'000'000;  // 160 MB: what takes half a second and more
constexpr std::size_t glance_pixels = 1'500'000;   // about those of a screen
constexpr int smallest_level_px = 256;

/// Of the pyramid of a frame.
int levels_of(Size size) {
  int levels = 1;
  for (int length = std::max(size.width, size.height); length > smallest_level_px;
       length = (length + 1) / 2)
    ++levels;
  return levels;
}

}  // namespace

Json description(const std::string& id, const std::string& name, Size size, int channels,
                 int levels, const Metadata& metadata) {
  const auto scale = pixel_scale_arcsec(metadata);
  return {{"id", id},
          {"name", name},
          {"width", size.width},
          {"height", size.height},
          {"channels", channels},
          {"levels", levels},
          {"format", metadata.format},
          {"pixel_scale_arcsec", scale ? Json(*scale) : Json(nullptr)},
          {"mosaic", false},
          {"loading", false},
          {"notes", metadata.notes}};
}

// ---- a glance ----------------------------------------------------------------------------------

Session::Glance::Glance(std::string own_id, std::string own_name, TileReader& reader)
    : id(std::move(own_id)),
      name(std::move(own_name)),
      info(reader.info()),
      levels(levels_of(info.size)) {
  while (level + 1 < levels &&
         (info.size.pixels() >> (2 * static_cast<unsigned>(level))) > glance_pixels)
    ++level;
  image = every(1 << level, info.size, [&](Rect row) { return reader.read(row); });
}

Json Session::Glance::described() const {
  Json told = description(id, name, info.size, info.channels, levels, info.metadata);
  told["loading"] = true;
  told["notes"] = Json::array();  // they are told with the frame
  return told;
}

Image Session::Glance::part(int wanted_level, Rect rect) const {
  const ConstView whole = upright(image.view(), info.metadata.bottom_up);
  const int finer = level - wanted_level;
  if (wanted_level < 0 || wanted_level >= levels) throw Gone("no such level");
  if (finer <= 0) {
    const Pyramid pyramid(whole, smallest_level_px, 1);
    const ConstView view = pyramid.level(std::min(-finer, pyramid.levels() - 1));
    const Rect inside = intersect(rect, {0, 0, view.width(), view.height()});
    if (inside.width < 1 || inside.height < 1) throw Gone("nothing lies there");
    return copy(view.crop(inside));
  }
  const Size full{(info.size.width + (1 << wanted_level) - 1) >> wanted_level,
                  (info.size.height + (1 << wanted_level) - 1) >> wanted_level};
  const Rect inside = intersect(rect, {0, 0, full.width, full.height});
  if (inside.width < 1 || inside.height < 1) throw Gone("nothing lies there");
  const int factor = 1 << finer, left = inside.x / factor, top = inside.y / factor;
  const Rect coarse{left, top, (inside.x + inside.width + factor - 1) / factor - left,
                    (inside.y + inside.height + factor - 1) / factor - top};
  const Image large = enlarge(whole.crop(coarse), factor);
  return copy(large.view().crop(
      {inside.x - left * factor, inside.y - top * factor, inside.width, inside.height}));
}

// ---- a frame -----------------------------------------------------------------------------------

Session::OpenFrame::OpenFrame(std::string own_id, std::string own_name,
                              std::filesystem::path own_path, Frame own, int threads)
    : id(std::move(own_id)),
      name(std::move(own_name)),
      path(std::move(own_path)),
      frame(std::move(own)),
      pyramid(upright(frame.image.view(), frame.metadata.bottom_up), smallest_level_px, threads),
      mosaic(looks_like_mosaic(frame.image.view())),
      deconvolver(frame.image.view()),
      fitter(frame.image.view()) {}

Json Session::OpenFrame::described() const {
  Json told =
      description(id, name, size(), frame.image.channels(), pyramid.levels(), frame.metadata);
  told["seconds"] = open_seconds;
  told["mosaic"] = mosaic;
  return told;
}

std::shared_ptr<const Session::Glance> Session::glance_at(const std::string& name) {
  const auto path = folder_.file(name);
  const FrameInfo info = read_info(path);
  const std::string& format = info.metadata.format;
  const bool in_parts =
      info.compression == "none" && (format == "fits" || format == "xisf" || format == "tiff");
  const std::size_t samples = info.size.pixels() * static_cast<std::size_t>(info.channels);
  if (!in_parts || samples < large_samples) return nullptr;
  std::string id;
  {
    const std::scoped_lock lock(mutex_);
    id = new_id("glance");
  }
  TileReader reader(path);
  return std::make_shared<const Glance>(id, name, reader);
}

std::shared_ptr<Session::OpenFrame> Session::load(const std::string& name,
                                                  const Progress& progress) {
  const auto path = folder_.file(name);
  const auto start = Clock::now();
  Frame read = read_frame(path, {}, progress);
  std::string id;
  {
    const std::scoped_lock lock(mutex_);
    id = new_id("before");
  }
  auto opened = std::make_shared<OpenFrame>(id, name, path, std::move(read), threads_);
  opened->open_seconds = seconds_since(start);
  return opened;
}

void Session::load_behind(const std::shared_ptr<const Glance>& glance,
                          const std::stop_token& stop) {
  Progress progress;
  progress.stop = stop;
  std::shared_ptr<OpenFrame> opened;
  std::string problem;
  try {
    opened = load(glance->name, progress);
  } catch (const std::exception&) {
    problem = cli::as_error(std::current_exception()).what();
    if (problem.find(glance->name) == std::string::npos) problem = glance->name + ": " + problem;
  }
  if (stop.stop_requested()) return;
  show(opened, nullptr, glance);
  if (opened) return;
  const std::scoped_lock lock(mutex_);
  error_ = {{"id", next_id_++}, {"text", told(problem)}};
  changed();
}

void Session::show(const std::shared_ptr<OpenFrame>& opened,
                   const std::shared_ptr<const Glance>& glance,
                   const std::shared_ptr<const Glance>& instead) {
  std::shared_ptr<OpenFrame> old;  // freed without the lock
  std::shared_ptr<const Outcome> old_outcome;
  const std::scoped_lock lock(mutex_);
  if (instead && glance_ != instead) return;
  if (!instead) {
    stop_loading_.request_stop();
    drop_waiting("another frame was opened");
  }
  old = std::exchange(frame_, opened);
  glance_ = glance;
  old_outcome = std::exchange(outcome_, nullptr);
  previews_.clear();
  skies_.clear();
  error_ = nullptr;
  notes_.clear();
  changed();
}

Json Session::open(const std::string& name) {
  const std::scoped_lock one(opening_);
  const auto refuse = [this] {
    const std::scoped_lock lock(mutex_);
    refuse_during_run();
  };
  refuse();
  const auto glance = telling([&] { return glance_at(name); });
  const auto opened = glance ? nullptr : telling([&] { return load(name); });
  refuse();
  show(opened, glance);
  if (!glance) return state();
  loader_ = {};  // the one before has been told to stop
  std::stop_token token;
  {
    const std::scoped_lock lock(mutex_);
    stop_loading_ = {};
    token = stop_loading_.get_token();
  }
  loader_ = std::jthread([this, glance, token] { load_behind(glance, token); });
  return state();
}

void Session::close() { show(nullptr); }

}  // namespace limpid::web
