// Reads monolithic XISF 1.0 files: https://pixinsight.com/doc/docs/XISF-1.0-spec/XISF-1.0-spec.html
#include "xisf.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include <pugixml.hpp>

#include <limpid/error.h>

#include "raw_pixels.h"
#include "xisf_blocks.h"

namespace limpid::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view signature = "XISF0100";

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(ErrorKind::bad_input, shown(path) + ": " + what);
}

/// "w:h:c" or less; nothing when it is not a list of numbers.
std::vector<long long> geometry_of(const std::string& text) {
  std::vector<long long> numbers;
  std::istringstream stream(text);
  std::string field;
  while (std::getline(stream, field, ':')) {
    long long value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc{} || end != field.data() + field.size()) return {};
    numbers.push_back(value);
  }
  return numbers;
}

SampleType sample_format(const fs::path& path, pugi::xml_node element) {
  const std::string name = xisf_attribute(element, "sampleFormat");
  for (const auto& [type, known] : xisf_sample_formats) {
    if (name == known) return type;
  }
  fail(path, "sample format '" + clean_text(name) + "'; limpid takes real numbers");
}

/// Where the pixels of an Image or Thumbnail lie; channels beyond the colours are alpha.
RawPixels pixels_of(const fs::path& path, pugi::xml_node element, const XisfBlock& block) {
  const std::vector<long long> geometry = geometry_of(xisf_attribute(element, "geometry"));
  if (geometry.size() != 3) fail(path, "only images of two dimensions and some channels are read");
  require_sane_size(path, geometry[0], geometry[1], geometry[2]);
  RawPixels pixels;
  pixels.size = {static_cast<int>(geometry[0]), static_cast<int>(geometry[1])};
  pixels.channels = static_cast<int>(geometry[2]);
  pixels.interleaved = xisf_attribute(element, "pixelStorage") == "Normal";
  pixels.decoding.type = sample_format(path, element);
  pixels.decoding.big_endian = block.big_endian();
  if (block.size() < pixels.bytes()) {
    fail(path, "damaged XISF: its block of pixels has " + std::to_string(block.size()) +
                   " bytes, not " + std::to_string(pixels.bytes()));
  }
  return pixels;
}

int colours_of(const fs::path& path, pugi::xml_node element, int channels) {
  const std::string space = xisf_attribute(element, "colorSpace");
  if (space == "RGB") {
    if (channels < 3)
      fail(path, "damaged XISF: RGB with " + std::to_string(channels) + " channels");
    return 3;
  }
  if (!space.empty() && space != "Gray") {
    fail(path, "colour space " + clean_text(space) + "; convert the image to RGB");
  }
  return 1;
}

HeaderCard keyword_from(pugi::xml_node element) {
  HeaderCard card{xisf_attribute(element, "name"), xisf_attribute(element, "value"),
                  xisf_attribute(element, "comment"), false};
  if (card.keyword == "COMMENT" || card.keyword == "HISTORY") {
    // Some writers put the text into the value.
    if (card.comment.empty()) card.comment = card.value;
    card.value.clear();
    return card;
  }
  if (card.value.starts_with('\'')) {
    card.value = parse_card_string(card.value);
    card.is_string = true;
  }
  return card;
}

std::size_t element_bytes(const std::string& type) {
  if (type.find("8Vector") != std::string::npos || type == "ByteArray" ||
      type.find("8Matrix") != std::string::npos) {
    return 1;
  }
  for (const auto& [letters, bytes] : {std::pair{"16", 2}, {"32", 4}, {"64", 8}}) {
    if (type.find(letters) != std::string::npos) return static_cast<std::size_t>(bytes);
  }
  return 1;
}

/// Numbers in a block, brought to little-endian.
std::vector<std::byte> property_data(const InputFile& file, pugi::xml_node element,
                                     const std::string& type) {
  const XisfBlock block(file, element);
  block.verify();
  std::vector<std::byte> bytes = block.bytes();
  const std::size_t item = element_bytes(type);
  if (block.big_endian() && item > 1) {
    for (std::size_t i = 0; i + item <= bytes.size(); i += item) {
      std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                   bytes.begin() + static_cast<std::ptrdiff_t>(i + item));
    }
  }
  return bytes;
}

Property property_from(const InputFile& file, pugi::xml_node element) {
  Property property;
  property.id = xisf_attribute(element, "id");
  property.type = xisf_attribute(element, "type");
  property.format = xisf_attribute(element, "format");
  property.comment = xisf_attribute(element, "comment");
  property.value = xisf_attribute(element, "value");
  for (const char* side : {"length", "rows", "columns"}) {
    const std::string text = xisf_attribute(element, side);
    if (!text.empty()) property.shape.push_back(std::strtoull(text.c_str(), nullptr, 10));
  }
  if (xisf_attribute(element, "location").empty()) {
    if (property.value.empty()) property.value = element.text().get();
    return property;
  }
  property.data = property_data(file, element, property.type);
  if (property.type == "String") {
    property.value.assign(reinterpret_cast<const char*>(property.data.data()),
                          property.data.size());
    property.data.clear();
  }
  return property;
}

Thumbnail thumbnail_from(const InputFile& file, pugi::xml_node element) {
  const XisfBlock block(file, element);
  const RawPixels pixels = pixels_of(file.path(), element, block);
  constexpr std::uint64_t largest = std::uint64_t{1} << 24;
  if (pixels.decoding.type != SampleType::u8 || pixels.bytes() > largest) {
    fail(file.path(), "a thumbnail that is not small and 8-bit");
  }
  block.verify();
  Thumbnail thumbnail{pixels.size, colours_of(file.path(), element, pixels.channels), {}};
  Image planar(thumbnail.channels, thumbnail.size);
  pixels.read(InputFile(file.path(), block.bytes()), {0, 0, pixels.size.width, pixels.size.height},
              planar.view());
  thumbnail.samples.resize(planar.pixels().size());
  encode(planar.pixels(), {.type = SampleType::u8}, thumbnail.samples);
  return thumbnail;
}

class XisfSource final : public ImageSource {
 public:
  XisfSource(const fs::path& path, int image) : file_(path), header_(read_xisf_header(file_)) {
    const std::vector<pugi::xml_node> images = xisf_images(header_);
    if (images.empty()) fail(path, "holds no image");
    info_.image_count = static_cast<int>(images.size());
    require_image(path, image, info_.image_count);
    describe(images[static_cast<std::size_t>(image)]);
    if (images.size() > 1) describe_others(images, image);
  }

  void read(Rect rect, MutableView out) override {
    if (!verified_) block_->verify();
    verified_ = true;
    if (!block_->position_in_file() && !unpacked_) {
      unpacked_ = std::make_unique<InputFile>(file_.path(), block_->bytes());
    }
    pixels_.read(unpacked_ ? *unpacked_ : file_, rect, out);
  }

 private:
  void describe(pugi::xml_node element) {
    block_ = std::make_unique<XisfBlock>(file_, element);
    pixels_ = pixels_of(file_.path(), element, *block_);
    pixels_.start = block_->position_in_file().value_or(0);
    info_.size = pixels_.size;
    info_.channels = colours_of(file_.path(), element, pixels_.channels);
    info_.compression = block_->compression();
    info_.checksum = block_->checksum();
    Metadata& metadata = info_.metadata;
    if (pixels_.channels > info_.channels) {
      metadata.notes.emplace_back("the alpha channels were dropped");
    }
    metadata.format = "xisf";
    metadata.sample_type = pixels_.decoding.type;
    metadata.scale = scale_of(element);
    describe_orientation(xisf_attribute(element, "orientation"));
    for (const pugi::xml_node child : element.children()) keep(xisf_resolved(header_, child));
    keep_properties_of_the_file();
  }

  void describe_others(const std::vector<pugi::xml_node>& images, int image) {
    OtherImages& others = info_.metadata.others;
    others.file = file_.path();
    for (int i = 0; i < info_.image_count; ++i) {
      if (i != image) others.indices.push_back(i);
      const pugi::xml_node element = images[static_cast<std::size_t>(i)];
      info_.image_names.push_back(clean_text(xisf_attribute(element, "id")));
    }
  }

  [[nodiscard]] double scale_of(pugi::xml_node element) const {
    if (!is_float(pixels_.decoding.type)) return sample_max(pixels_.decoding.type);
    const std::string bounds = xisf_attribute(element, "bounds");
    const std::size_t colon = bounds.find(':');
    if (colon == std::string::npos) return 0.0;
    const double highest = std::strtod(bounds.c_str() + colon + 1, nullptr);
    return std::isfinite(highest) && highest > 0.0 ? scale_for_largest(highest) : 0.0;
  }

  void describe_orientation(const std::string& orientation) {
    info_.metadata.bottom_up = orientation == xisf_bottom_up;
    if (orientation.empty() || orientation == "0" || info_.metadata.bottom_up) return;
    info_.metadata.notes.push_back("the file asks to be shown turned (orientation " +
                                   clean_text(orientation) + "); the pixels stay as stored");
  }

  /// A damaged ornament is left out with a note; only the pixels are worth an error.
  void keep(pugi::xml_node element) {
    try {
      keep_element(element, element.name());
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_input) throw;
      info_.metadata.notes.push_back(std::string(element.name()) + " left out: " + error.what());
    }
  }

  /// Those that no image refers to, which may have said the same already.
  void keep_properties_of_the_file() {
    for (const pugi::xml_node element : header_.child("xisf").children("Property")) {
      const std::string id = xisf_attribute(element, "id");
      const bool known = std::ranges::find(info_.metadata.properties, id, &Property::id) !=
                         info_.metadata.properties.end();
      if (!known && xisf_attribute(element, "uid").empty()) keep(element);
    }
  }

  void keep_element(pugi::xml_node element, std::string_view name) {
    Metadata& metadata = info_.metadata;
    if (name == "FITSKeyword") {
      const HeaderCard card = keyword_from(element);
      if (!is_structural(card.keyword)) metadata.cards.push_back(card);
    } else if (name == "Property") {
      metadata.properties.push_back(property_from(file_, element));
    } else if (name == "ICCProfile") {
      const XisfBlock block(file_, element);
      block.verify();
      metadata.icc_profile = block.bytes();
    } else if (name == "Thumbnail") {
      metadata.thumbnail = thumbnail_from(file_, element);
    } else if (name == "ColorFilterArray") {
      if (info_.channels == 1) info_.bayer = clean_text(xisf_attribute(element, "pattern"));
    } else if (name == "RGBWorkingSpace" || name == "DisplayFunction" || name == "Resolution") {
      std::ostringstream xml;
      element.print(xml, "", pugi::format_raw);
      metadata.xisf_elements.push_back(xml.str());
    } else if (name == "Table" || name == "Structure") {
      metadata.notes.push_back("the " + std::string(name) + " " +
                               clean_text(xisf_attribute(element, "id")) + " was left out");
    }
  }

  InputFile file_;
  pugi::xml_document header_;
  std::unique_ptr<XisfBlock> block_;
  RawPixels pixels_;
  bool verified_ = false;
  std::unique_ptr<InputFile> unpacked_;  ///< at the first read
};

bool recognises(std::span<const std::byte> head) {
  return head.size() >= signature.size() &&
         std::memcmp(head.data(), signature.data(), signature.size()) == 0;
}

std::unique_ptr<ImageSource> open(const fs::path& path, int image) {
  return std::make_unique<XisfSource>(path, image);
}

}  // namespace

pugi::xml_document read_xisf_header(const InputFile& file) {
  std::array<std::byte, 16> start{};
  file.read_at(0, start);
  std::uint64_t length = 0;
  for (std::size_t i = 4; i-- > 0;) {
    length = length << 8 | std::to_integer<std::uint64_t>(start[8 + i]);
  }
  const std::vector<std::byte> text = file.read_at(start.size(), length);
  // Some writers fill the rest of the header with zeros.
  const std::size_t end =
      static_cast<std::size_t>(std::ranges::find(text, std::byte{0}) - text.begin());
  pugi::xml_document header;
  const auto result = header.load_buffer(text.data(), end);
  if (!result || !header.child("xisf")) {
    fail(file.path(), std::string("damaged XISF header: ") + result.description());
  }
  return header;
}

std::vector<pugi::xml_node> xisf_images(const pugi::xml_document& header) {
  const auto images = header.child("xisf").children("Image");
  return {images.begin(), images.end()};
}

pugi::xml_node xisf_resolved(const pugi::xml_document& header, pugi::xml_node element) {
  if (std::string_view(element.name()) != "Reference") return element;
  const std::string uid = xisf_attribute(element, "ref");
  for (const pugi::xml_node other : header.child("xisf").children()) {
    if (!uid.empty() && xisf_attribute(other, "uid") == uid) return other;
  }
  return {};
}

Format xisf_format() {
  using enum SampleType;
  return {
      .name = "xisf",
      .endings = {".xisf"},
      .writable = {u8, u16, u32, u64, f32, f64},
      .compressions = {Compression::none, Compression::zlib, Compression::lz4, Compression::zstd},
      .checksums = true,
      .recognises = recognises,
      .open = open,
      .write = write_xisf};
}

}  // namespace limpid::io
