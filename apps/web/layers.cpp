// Pixels for the page: pictures of layers, histograms, and values under the pointer.
#include <algorithm>
#include <cmath>

#include "web/parts.h"

namespace limpid::web {
namespace {

constexpr int largest_picture_px = 1024;
constexpr std::size_t histogram_pixels = 1000000;
constexpr int histogram_bins = 160;
constexpr float trust_full_scale = 5;  // sigma

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

/// The part of a level that lies in it.
Rect within(ConstView level, Rect rect) {
  rect = intersect(rect, {0, 0, level.width(), level.height()});
  if (rect.width < 1 || rect.height < 1) throw Gone("nothing lies there");
  return rect;
}

}  // namespace

std::vector<std::byte> Session::picture(const std::string& layer, int level, Rect rect,
                                        const Look& look) const {
  std::shared_ptr<OpenFrame> open;
  std::shared_ptr<const Outcome> outcome;
  std::shared_ptr<const Preview> preview;
  std::shared_ptr<const Sky> sky;
  std::shared_ptr<const Glance> glance;
  {
    const std::scoped_lock lock(mutex_);
    open = frame_, outcome = outcome_, glance = glance_;
    for (const auto& known : previews_) {
      if (known->id == layer) preview = known;
    }
    for (const auto& known : skies_) {
      if (layer == known->id || layer == "model-" + known->id) sky = known;
    }
  }
  if (rect.width > largest_picture_px || rect.height > largest_picture_px)
    throw Error(ErrorKind::usage, "pictures are at most 1024 x 1024 px");
  if (glance && layer == glance->id) {
    const Stretch stretch =
        measure_stretch(glance->image.view(), {.sky = look.sky, .linked = look.linked});
    return encode_png(apply(stretch, glance->part(level, rect).view()).view());
  }
  if (!open) throw Gone("no frame is open");
  const auto png = [&](ConstView part) {
    return encode_png(apply(open->stretch(look), part).view());
  };
  const auto level_of = [&](const Pyramid& pyramid) {
    if (level < 0 || level >= pyramid.levels()) throw Gone("no such level");
    return pyramid.level(level);
  };
  const auto part_of = [&](ConstView view) { return view.crop(within(view, rect)); };

  if (layer == open->id) return png(part_of(level_of(open->pyramid)));
  if (outcome && layer == outcome->id) return png(part_of(level_of(outcome->pyramid)));
  if (outcome && outcome->trust_pyramid && layer == "trust-" + outcome->id) {
    const ConstView part = part_of(level_of(*outcome->trust_pyramid));
    return encode_png(show_differences(part, trust_full_scale).view());
  }
  if (preview) return png(part_of(level_of(preview->pyramid)));
  if (sky) {
    const ConstView frame = level_of(open->pyramid);
    const Rect part = within(frame, rect);
    const Sampling places = open->places(level, part);
    if (layer != sky->id) return png(sky->background->render(part.size(), places).view());
    return png(without_background(frame.crop(part), *sky->background, places, sky->removal).view());
  }
  throw Gone("no such layer");
}

Json Session::histogram(const std::string& layer, const Look& look) const {
  std::shared_ptr<OpenFrame> open;
  std::shared_ptr<const Outcome> outcome;
  std::shared_ptr<const Glance> glance;
  {
    const std::scoped_lock lock(mutex_);
    open = frame_, outcome = outcome_, glance = glance_;
  }
  if (glance && layer == glance->id) {
    const Stretch stretch =
        measure_stretch(glance->image.view(), {.sky = look.sky, .linked = look.linked});
    return {
        {"counts", measure_histogram(apply(stretch, glance->image.view()).view(), histogram_bins)}};
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
  std::shared_ptr<const Sky> sky;
  {
    const std::scoped_lock lock(mutex_);
    open = frame_, outcome = outcome_;
    if (!previews_.empty()) preview = previews_.front();
    if (!skies_.empty()) sky = skies_.front();
  }
  if (!open) throw Gone("no frame is open");
  const Size size = open->size();
  if (x < 0 || y < 0 || x >= size.width || y >= size.height)
    throw Error(ErrorKind::usage, "that place lies outside the frame");
  const Rect shown{x, y, 1, 1}, stored = open->turned(shown);
  const ConstView before = open->frame.image.view().crop(stored);
  const auto values = [&](ConstView view) {
    auto list = Json::array();
    for (int c = 0; c < view.channels(); ++c)
      list.push_back(number_or_null(open->frame.metadata.stored(view(c, 0, 0))));
    return list;
  };
  Json answer{{"x", x}, {"y", stored.y}, {"before", values(before)}};
  if (outcome) answer["after"] = values(outcome->frame.image.view().crop(stored));
  if (preview && intersect(preview->region, stored) == stored) {
    const Rect r = preview->region;
    answer["preview"] = values(preview->image.view().crop({x - r.x, stored.y - r.y, 1, 1}));
  }
  if (sky) {
    answer["sky"] = values(
        without_background(before, *sky->background, open->places(0, shown), sky->removal).view());
  }
  return answer;
}

}  // namespace limpid::web
