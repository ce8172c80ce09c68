// limpid info: what a file says, without reading its pixels.
#include <limpid/io.h>

#include <sstream>

#include "command.h"

namespace limpid::cli {
namespace {

using nlohmann::ordered_json;

const char* name_of(SampleType type) {
  switch (type) {
    case SampleType::u8:
      return "u8";
    case SampleType::u16:
      return "u16";
    case SampleType::u32:
      return "u32";
    case SampleType::u64:
      return "u64";
    case SampleType::i16:
      return "i16";
    case SampleType::i32:
      return "i32";
    case SampleType::i64:
      return "i64";
    case SampleType::f16:
      return "f16";
    case SampleType::f32:
      return "f32";
    case SampleType::f64:
      return "f64";
  }
  return "";
}

ordered_json cards_json(const Metadata& metadata) {
  auto cards = ordered_json::array();
  for (const HeaderCard& card : metadata.cards) {
    cards.push_back({{"keyword", card.keyword}, {"value", card.value}, {"comment", card.comment}});
  }
  return cards;
}

ordered_json properties_json(const Metadata& metadata) {
  auto properties = ordered_json::array();
  for (const Property& property : metadata.properties) {
    ordered_json entry{{"id", property.id}, {"type", property.type}};
    if (property.data.empty()) {
      entry["value"] = property.value;
    } else {
      entry["bytes"] = property.data.size();
    }
    if (!property.shape.empty()) entry["shape"] = property.shape;
    properties.push_back(std::move(entry));
  }
  return properties;
}

ordered_json to_json(const FrameInfo& info) {
  const Metadata& metadata = info.metadata;
  ordered_json json{{"format", metadata.format},
                    {"width", info.size.width},
                    {"height", info.size.height},
                    {"channels", info.channels},
                    {"sample_type", name_of(metadata.sample_type)},
                    {"compression", info.compression},
                    {"checksum", info.checksum},
                    {"images", info.image_count},
                    {"image_names", info.image_names},
                    {"bayer", info.bayer},
                    {"row_order", metadata.bottom_up ? "bottom-up" : "top-down"},
                    {"icc_profile_bytes", metadata.icc_profile.size()},
                    {"description", metadata.description}};
  const auto scale = pixel_scale_arcsec(metadata);
  json["pixel_scale_arcsec"] = scale ? ordered_json(*scale) : ordered_json(nullptr);
  const Thumbnail& thumbnail = metadata.thumbnail;
  json["thumbnail"] = thumbnail.samples.empty() ? ordered_json(nullptr)
                                                : ordered_json{{"width", thumbnail.size.width},
                                                               {"height", thumbnail.size.height},
                                                               {"channels", thumbnail.channels}};
  json["xisf_elements"] = metadata.xisf_elements;
  json["cards"] = cards_json(metadata);
  json["properties"] = properties_json(metadata);
  json["notes"] = metadata.notes;
  return json;
}

std::string to_text(const std::filesystem::path& path, const FrameInfo& info) {
  const Metadata& metadata = info.metadata;
  std::ostringstream text;
  text << path.string() << ": " << metadata.format << ", " << info.size.width << " x "
       << info.size.height << ", " << (info.channels == 3 ? "colour" : "mono") << ", "
       << name_of(metadata.sample_type) << ", compression " << info.compression
       << (info.checksum.empty() ? "" : ", checksum " + info.checksum) << ", rows "
       << (metadata.bottom_up ? "bottom-up" : "top-down") << '\n';
  if (info.image_count > 1) {
    text << "  " << info.image_count << " images (choose with --image)";
    for (std::size_t i = 0; i < info.image_names.size(); ++i) {
      text << (i == 0 ? ": " : ", ") << i << ' ' << info.image_names[i];
    }
    text << '\n';
  }
  if (!info.bayer.empty()) text << "  colour mosaic " << info.bayer << ": debayer it first\n";
  if (const auto scale = pixel_scale_arcsec(metadata)) {
    text << "  " << *scale << " arcsec per pixel\n";
  }
  if (!metadata.icc_profile.empty()) {
    text << "  ICC profile of " << metadata.icc_profile.size() << " bytes\n";
  }
  if (!metadata.thumbnail.samples.empty()) {
    text << "  thumbnail " << metadata.thumbnail.size.width << " x "
         << metadata.thumbnail.size.height << '\n';
  }
  for (const std::string& element : metadata.xisf_elements) text << "  " << element << '\n';
  if (!metadata.description.empty()) text << "  " << metadata.description << '\n';
  for (const std::string& note : metadata.notes) text << "  note: " << note << '\n';
  for (const HeaderCard& card : metadata.cards) {
    text << "  " << card.keyword << (card.value.empty() ? "" : " = ") << card.value
         << (card.comment.empty() ? "" : " / ") << card.comment << '\n';
  }
  for (const Property& property : metadata.properties) {
    text << "  " << property.id << " (" << property.type << ")";
    if (property.data.empty()) text << " = " << property.value;
    text << '\n';
  }
  std::string lines = text.str();
  lines.pop_back();
  return lines;
}

}  // namespace

void add_info(CLI::App& app, const Common& common) {
  struct Options {
    std::vector<std::filesystem::path> inputs;
    int image = 0;
  };
  auto options = std::make_shared<Options>();
  Command command(app, common, "info", "Shows what a file says about itself.",
                  "limpid info m31.xisf --json");
  command.inputs(options->inputs, "files: FITS, XISF, TIFF, PNG or JPEG")
      .option("--image", options->image, {0, 9999}, "which image of a file that holds several");
  command.run([options, common] {
    common.for_each(options->inputs, {}, "", [&](const Job& job, const Progress&) {
      const FrameInfo info = read_info(job.input, {.image = options->image});
      return Result{to_json(info), to_text(job.input, info)};
    });
  });
}

}  // namespace limpid::cli
