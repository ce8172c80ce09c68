// What a frame's metadata become for a result on another grid: a part of it, finer pixels.
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include <limpid/io.h>

#include "format.h"
#include "samples.h"

namespace limpid {
namespace {

std::optional<double> number_in(std::string text) {
  // FITS allows the D of Fortran's double precision
  std::ranges::replace(text, 'D', 'E');
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string text_of(double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.15G", value);
  return text.data();
}

bool is_one_of(const std::string& key, std::initializer_list<std::string_view> keys) {
  return std::ranges::find(keys, key) != keys.end();
}

/// A keyword without the letter that tells alternate axes descriptions apart: CRPIX1A is CRPIX1.
std::string primary(const std::string& key) {
  const bool alternate = key.size() > 1 && key.back() >= 'A' && key.back() <= 'Z' &&
                         std::isdigit(static_cast<unsigned char>(key[key.size() - 2])) != 0;
  return alternate ? key.substr(0, key.size() - 1) : key;
}

/// A_2_0, BP_0_1, ...: the sum of the two orders; 0 for other keywords. (SIP: Shupe et al. 2005,
/// ASP Conf. Ser. 347, 491)
int sip_order(const std::string& key) {
  const std::size_t first = key.find('_');
  const std::string name = key.substr(0, first);
  if (first == std::string::npos || !is_one_of(name, {"A", "B", "AP", "BP"})) return 0;
  if (key.size() != first + 4 || key[first + 2] != '_') return 0;
  const char i = key[first + 1], j = key[first + 3];
  if (i < '0' || i > '9' || j < '0' || j > '9') return 0;
  return i - '0' + j - '0';
}

/// Angles and lengths of a pixel. XPIXSZ goes with XBINNING in some programs, which stays.
bool is_pixel_size(const std::string& key) {
  return is_one_of(
      key, {"PIXSCALE", "PIXSCAL1", "PIXSCAL2", "SCALE", "SECPIX", "SECPIX1", "SECPIX2", "XPIXSZ",
            "YPIXSZ", "PIXSIZE", "PIXSIZE1", "PIXSIZE2", "XPIXELSZ", "YPIXELSZ", "PIXSZ"});
}

/// Values of pixels: where they are clipped, what they reach, how they are shown.
bool is_level(const std::string& key) {
  return is_one_of(key, {"SATURATE", "SATURAT", "SATLEVEL", "MAXLIN", "DATAMAX", "DATAMIN",
                         "CBLACK", "CWHITE", "MIPS-HI", "MIPS-LO"});
}

/// [1:2048,1:1024]: of the frame or of the sensor, one for each amplifier or for all.
bool is_section(const HeaderCard& card) {
  if (!card.value.starts_with('[') || card.value.find(':') == std::string::npos) return false;
  return std::ranges::any_of(
      std::array<std::string_view, 8>{"DATASEC", "TRIMSEC", "BIASSEC", "CCDSEC", "DETSEC", "AMPSEC",
                                      "ORIGSEC", "GOODSEC"},
      [&](std::string_view name) {
        return card.keyword.starts_with(name) && card.keyword.size() <= name.size() + 1;
      });
}

bool is_of_solution(const Property& property) {
  return property.id.starts_with("PCL:AstrometricSolution:");
}

/// A step of the linear world coordinates along a pixel axis, in whatever unit.
bool is_step(const std::string& key) {
  return is_one_of(key, {"CD1_1", "CD1_2", "CD2_1", "CD2_2", "CDELT1", "CDELT2"});
}

class Change {
 public:
  Change(const Metadata& metadata, Size frame, const GridChange& change)
      : change_(change),
        factor_(change.factor),
        moved_(change.part.x != 0 || change.part.y != 0),
        other_grid_(moved_ || change.factor != 1 || change.part.size() != frame),
        level_(change.as_floats && io::has_natural_white(metadata.sample_type) ? 1 / metadata.scale
                                                                               : 1.0) {
    level_ /= factor_ * factor_;
  }

  void apply(HeaderCard& card) const {
    const auto value = number_in(card.value);
    if (!value) return;
    const auto set = [&](double now) {
      if (now != *value) card.value = text_of(now);
    };
    const std::string key = primary(card.keyword);
    if (key == "CRPIX1" || key == "LTV1") set(place(*value, change_.part.x));
    if (key == "CRPIX2" || key == "LTV2") set(place(*value, change_.part.y));
    if (is_one_of(key, {"LTM1_1", "LTM1_2", "LTM2_1", "LTM2_2"})) set(*value * factor_);
    if (is_step(key) || is_pixel_size(key)) set(*value / factor_);
    if (is_one_of(key, {"A_DMAX", "B_DMAX"})) set(*value * factor_);
    if (const int order = sip_order(key); order > 0) set(*value * std::pow(factor_, 1 - order));
    if (is_level(key)) set(*value * level_);
    if (key == "IMAGEW") set(change_.part.width * factor_);
    if (key == "IMAGEH") set(change_.part.height * factor_);
  }

  /// The centre of the first pixel is 1.0, its edge 0.5.
  [[nodiscard]] double place(double value, int begin) const {
    return (value - begin - 0.5) * factor_ + 0.5;
  }
  [[nodiscard]] bool drops(const HeaderCard& card) const { return other_grid_ && is_section(card); }
  [[nodiscard]] bool drops(const Property& property) const {
    return (moved_ || factor_ != 1) && is_of_solution(property);
  }
  [[nodiscard]] bool other_grid() const { return other_grid_; }

 private:
  GridChange change_;
  double factor_;
  bool moved_, other_grid_;
  double level_;
};

/// IRAF leaves out what is the identity: where one card of its physical coordinates is there, all
/// that matter must be.
void complete_physical(Metadata& metadata) {
  const auto has = [&](std::string_view prefix) {
    return std::ranges::any_of(
        metadata.cards, [&](const HeaderCard& card) { return card.keyword.starts_with(prefix); });
  };
  if (!has("LTV") && !has("LTM")) return;
  for (const auto& [key, identity] : {std::pair{"LTM1_1", "1.0"}, std::pair{"LTM2_2", "1.0"},
                                      std::pair{"LTV1", "0.0"}, std::pair{"LTV2", "0.0"}}) {
    if (!metadata.card(key)) metadata.cards.push_back({key, identity, "", false});
  }
}

}  // namespace

std::vector<std::string> change_grid(Metadata& metadata, Size frame, const GridChange& how) {
  const Change change(metadata, frame, how);
  if (change.other_grid()) complete_physical(metadata);
  std::vector<std::string> dropped;
  std::erase_if(metadata.cards, [&](const HeaderCard& card) {
    if (!change.drops(card)) return false;
    dropped.push_back(card.keyword);
    return true;
  });
  for (HeaderCard& card : metadata.cards) change.apply(card);
  const auto solution = std::erase_if(
      metadata.properties, [&](const Property& property) { return change.drops(property); });
  if (solution > 0) dropped.emplace_back("PCL:AstrometricSolution");
  for (Property& property : metadata.properties) {
    if (property.id != "Instrument:Sensor:XPixelSize" &&
        property.id != "Instrument:Sensor:YPixelSize")
      continue;
    if (const auto size = number_in(property.value); size && how.factor != 1)
      property.value = text_of(*size / how.factor);
  }
  return dropped;
}

}  // namespace limpid
