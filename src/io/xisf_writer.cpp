// Writes monolithic XISF 1.0 files with attached blocks.
#include "xisf.h"

#include <strings.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <sstream>

#include <pugixml.hpp>

#include <limpid/error.h>

#include "raw_pixels.h"
#include "xisf_blocks.h"

namespace limpid::io {
namespace {

constexpr std::uint64_t alignment = 4096;     // what PixInsight uses
constexpr std::size_t largest_inline = 3072;  // bytes that go into the header as base64
constexpr std::uint64_t preamble_bytes = 16;

std::uint64_t aligned(std::uint64_t position) {
  return (position + alignment - 1) / alignment * alignment;
}

/// A block behind the header; `location` is filled in once the header's length is known.
struct Attachment {
  pugi::xml_attribute location;
  std::uint64_t size = 0;
  std::function<void()> write;
  std::uint64_t position = 0;
};

class XisfWriter {
 public:
  XisfWriter(OutputFile& file, const WriteJob& job) : file_(&file), job_(&job) {}

  void write() {
    build_header();
    const std::string header = place_attachments();
    std::string preamble = "XISF0100";
    for (int shift = 0; shift < 32; shift += 8) {
      preamble += static_cast<char>(header.size() >> shift & 0xff);
    }
    preamble.append(4, '\0');
    file_->write(preamble);
    file_->write(header);
    for (const Attachment& attachment : attachments_) {
      file_->write_zeros(static_cast<std::size_t>(attachment.position - file_->position()));
      attachment.write();
    }
  }

 private:
  [[nodiscard]] const Metadata& metadata() const { return job_->frame.metadata; }

  [[nodiscard]] Encoding encoding() const {
    return {.type = job_->type, .big_endian = false, .scale = job_->scale, .offset = job_->offset};
  }

  void build_header() {
    pugi::xml_node root = document_.append_child("xisf");
    root.append_attribute("version") = "1.0";
    root.append_attribute("xmlns") = "http://www.pixinsight.com/xisf";
    root.append_attribute("xmlns:xsi") = "http://www.w3.org/2001/XMLSchema-instance";
    root.append_attribute("xsi:schemaLocation") =
        "http://www.pixinsight.com/xisf http://pixinsight.com/xisf/xisf-1.0.xsd";
    add_image(root);
    add_other_images(root);
    add_file_metadata(root);
  }

  void add_image(pugi::xml_node root) {
    const Image& pixels = job_->frame.image;
    pugi::xml_node image = root.append_child("Image");
    image.append_attribute("geometry") =
        (std::to_string(pixels.width()) + ":" + std::to_string(pixels.height()) + ":" +
         std::to_string(pixels.channels()))
            .c_str();
    image.append_attribute("sampleFormat") = format_name(job_->type);
    if (is_float(job_->type)) {
      const double white = job_->scale == 1.0 ? 1.0 : job_->scale - 1.0;
      image.append_attribute("bounds") =
          ("0:" + std::to_string(static_cast<long long>(white))).c_str();
    }
    image.append_attribute("colorSpace") = pixels.channels() == 3 ? "RGB" : "Gray";
    if (metadata().bottom_up) image.append_attribute("orientation") = xisf_bottom_up;
    attach_pixels(image);
    for (const HeaderCard& card : cards_to_write(*job_)) add_keyword(image, card);
    for (const Property& property : metadata().properties) add_property(image, property);
    if (!metadata().icc_profile.empty()) {
      attach(image.append_child("ICCProfile"), metadata().icc_profile);
    }
    for (const std::string& element : metadata().xisf_elements) {
      image.append_buffer(element.data(), element.size());
    }
    add_thumbnail(image);
  }

  static const char* format_name(SampleType type) {
    for (const auto& [known, name] : xisf_sample_formats) {
      if (known == type) return name;
    }
    throw Error(ErrorKind::failed, "no XISF name for this sample type");
  }

  /// Pixels that must be seen whole before the header can be written are encoded now.
  void attach_pixels(pugi::xml_node image) {
    const std::span<const float> pixels = job_->frame.image.pixels();
    const std::size_t bytes = pixels.size() * sample_bytes(job_->type);
    const bool plain = job_->options.compression == Compression::none;
    if (plain && job_->options.checksum == Checksum::none) {
      attachments_.push_back({image.append_attribute("location"), bytes,
                              [this] { write_samples(*file_, *job_, encoding()); }});
      return;
    }
    std::vector<std::byte> encoded(bytes);
    encode(pixels, encoding(), encoded);
    job_->progress.throw_if_stopped();
    job_->progress(0.3, "writing");
    if (!plain) {
      PackedBlock packed =
          pack_block(std::move(encoded), job_->options.compression, sample_bytes(job_->type));
      image.append_attribute("compression") = packed.compression.c_str();
      if (!packed.subblocks.empty()) {
        image.append_attribute("subblocks") = packed.subblocks.c_str();
      }
      encoded = std::move(packed.bytes);
    }
    attach(image, std::move(encoded));
  }

  void attach(pugi::xml_node element, std::vector<std::byte> bytes) {
    if (job_->options.checksum != Checksum::none) {
      element.append_attribute("checksum") = block_checksum(bytes, job_->options.checksum).c_str();
    }
    const std::uint64_t size = bytes.size();
    attachments_.push_back({element.append_attribute("location"), size,
                            [this, kept = std::move(bytes)] { file_->write(kept); }});
  }

  /// The other images of the file that the frame came from lie behind it as they lay there: packed
  /// as they were, with checksums that still hold. What cannot be had is left out with a note.
  void add_other_images(pugi::xml_node root) {
    const OtherImages& others = metadata().others;
    if (others.indices.empty()) return;
    try {
      source_ = std::make_unique<InputFile>(others.file);
      const pugi::xml_document header = read_xisf_header(*source_);
      const std::vector<pugi::xml_node> images = xisf_images(header);
      for (const int index : others.indices) {
        require_image(others.file, index, static_cast<int>(images.size()));
        add_copy(root, header, images[static_cast<std::size_t>(index)]);
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_input) throw;
      job_->progress.say(std::string("other images left out: ") + error.what());
    }
  }

  void add_copy(pugi::xml_node root, const pugi::xml_document& header, pugi::xml_node image) {
    const std::size_t before = attachments_.size();
    pugi::xml_node copy = root.append_copy(image);
    try {
      copy_shared(header, copy);
      attach_copies(copy);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_input) throw;
      attachments_.resize(before);
      root.remove_child(copy);
      job_->progress.say(std::string("another image left out: ") + error.what());
    }
  }

  /// What several images share is copied into each, so that nothing refers to anything.
  static void copy_shared(const pugi::xml_document& header, pugi::xml_node image) {
    const auto children = image.children("Reference");
    for (pugi::xml_node child : std::vector<pugi::xml_node>(children.begin(), children.end())) {
      if (const pugi::xml_node shared = xisf_resolved(header, child)) {
        image.insert_copy_before(shared, child).remove_attribute("uid");
      }
      image.remove_child(child);
    }
  }

  void attach_copies(pugi::xml_node element) {
    const auto location = element.find_attribute([](const pugi::xml_attribute& attribute) {
      return strcasecmp(attribute.name(), "location") == 0;
    });
    if (location) {
      if (const auto stored = XisfBlock(*source_, element).attachment()) {
        attachments_.push_back(
            {location, stored->size, [this, stored = *stored] { copy_from_source(stored); }});
      }
    }
    for (const pugi::xml_node child : element.children()) attach_copies(child);
  }

  void copy_from_source(XisfBlock::Stored stored) {
    std::vector<std::byte> chunk(
        static_cast<std::size_t>(std::min<std::uint64_t>(stored.size, std::uint64_t{1} << 20)));
    for (std::uint64_t done = 0; done < stored.size; done += chunk.size()) {
      job_->progress.throw_if_stopped();
      chunk.resize(
          static_cast<std::size_t>(std::min<std::uint64_t>(chunk.size(), stored.size - done)));
      source_->read_at(stored.position + done, chunk);
      file_->write(chunk);
    }
  }

  void add_keyword(pugi::xml_node image, const HeaderCard& card) {
    pugi::xml_node keyword = image.append_child("FITSKeyword");
    keyword.append_attribute("name") = card.keyword.c_str();
    keyword.append_attribute("value") =
        (card.is_string ? format_card_string(card.value) : card.value).c_str();
    keyword.append_attribute("comment") = card.comment.c_str();
  }

  void add_property(pugi::xml_node image, const Property& property) {
    pugi::xml_node element = image.append_child("Property");
    element.append_attribute("id") = property.id.c_str();
    element.append_attribute("type") = property.type.c_str();
    if (!property.format.empty()) element.append_attribute("format") = property.format.c_str();
    if (!property.comment.empty()) element.append_attribute("comment") = property.comment.c_str();
    if (property.shape.size() == 1) {
      element.append_attribute("length") = std::to_string(property.shape[0]).c_str();
    } else if (property.shape.size() == 2) {
      element.append_attribute("rows") = std::to_string(property.shape[0]).c_str();
      element.append_attribute("columns") = std::to_string(property.shape[1]).c_str();
    }
    if (property.type == "String") {
      element.text() = property.value.c_str();
    } else if (property.data.empty() && property.shape.empty()) {
      element.append_attribute("value") = property.value.c_str();
    } else if (property.data.size() <= largest_inline) {
      element.append_attribute("location") = "inline:base64";
      element.text() = base64(property.data).c_str();
    } else {
      attach(element, property.data);
    }
  }

  void add_thumbnail(pugi::xml_node image) {
    const Thumbnail& thumbnail = metadata().thumbnail;
    if (thumbnail.samples.empty()) return;
    pugi::xml_node element = image.append_child("Thumbnail");
    element.append_attribute("geometry") =
        (std::to_string(thumbnail.size.width) + ":" + std::to_string(thumbnail.size.height) + ":" +
         std::to_string(thumbnail.channels))
            .c_str();
    element.append_attribute("sampleFormat") = "UInt8";
    element.append_attribute("colorSpace") = thumbnail.channels == 3 ? "RGB" : "Gray";
    attach(element, thumbnail.samples);
  }

  /// No creation time: the same frame gives the same bytes.
  void add_file_metadata(pugi::xml_node root) {
    pugi::xml_node node = root.append_child("Metadata");
    const auto text = [&](const char* id, const char* type, const char* value) {
      pugi::xml_node property = node.append_child("Property");
      property.append_attribute("id") = id;
      property.append_attribute("type") = type;
      if (std::string_view(type) == "String") {
        property.text() = value;
      } else {
        property.append_attribute("value") = value;
      }
    };
    text("XISF:CreatorApplication", "String", "limpid " LIMPID_VERSION);
    text("XISF:BlockAlignmentSize", "UInt16", "4096");
    text("XISF:MaxInlineBlockSize", "UInt16", "3072");
  }

  [[nodiscard]] std::string header_text() const {
    std::ostringstream text;
    document_.save(text, "", pugi::format_raw, pugi::encoding_utf8);
    return text.str();
  }

  /// The places depend on the header's length, and that on the digits of the places.
  std::string place_attachments() {
    std::string header = header_text();
    while (true) {
      std::uint64_t position = aligned(preamble_bytes + header.size());
      for (Attachment& attachment : attachments_) {
        attachment.position = position;
        attachment.location =
            ("attachment:" + std::to_string(position) + ":" + std::to_string(attachment.size))
                .c_str();
        position = aligned(position + attachment.size);
      }
      std::string next = header_text();
      if (preamble_bytes + next.size() <= attachments_.front().position) return next;
      header = std::move(next);
    }
  }

  OutputFile* file_;
  const WriteJob* job_;
  pugi::xml_document document_;
  std::vector<Attachment> attachments_;
  std::unique_ptr<InputFile> source_;  ///< of the other images
};

}  // namespace

void write_xisf(OutputFile& file, const WriteJob& job) { XisfWriter(file, job).write(); }

}  // namespace limpid::io
