// The table of formats, and what they share: recognising, scaling, choosing how to store.
#include "format.h"

#include <unistd.h>
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <numbers>

#include <limpid/error.h>

#include "core/parallel.h"

namespace limpid {
namespace io {
namespace {

namespace fs = std::filesystem;

const std::vector<Format>& formats() {
  static const std::vector<Format> table{fits_format(), xisf_format(), tiff_format(), png_format(),
                                         jpeg_format()};
  return table;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

/// By name ("tiff") or ending (".tif").
const Format* writable_format(const std::string& wanted) {
  for (const Format& format : formats()) {
    const bool ends = std::ranges::find(format.endings, wanted) != format.endings.end();
    if (format.write != nullptr && (ends || format.name == wanted)) return &format;
  }
  return nullptr;
}

/// `own` is the format that the frame came in.
const Format& format_for_writing(const fs::path& path, const WriteOptions& options,
                                 const std::string& own) {
  const std::string ending = lower(path.extension().string());
  const Format* by_ending = writable_format(ending);
  if (!options.format.empty()) {
    const Format* wanted = writable_format(options.format);
    if (wanted == nullptr) wanted = writable_format("." + options.format);
    if (wanted != nullptr && (by_ending == nullptr || by_ending == wanted)) return *wanted;
    throw Error(ErrorKind::usage,
                shown(path) + ": the format '" + options.format +
                    (wanted == nullptr ? "' is not written" : "' has another ending"));
  }
  if (by_ending != nullptr) return *by_ending;
  if (is_stream(path)) {
    const Format* same = writable_format(own);
    return same != nullptr ? *same : *writable_format("fits");
  }
  if (!path.has_filename() || fs::is_directory(path)) {
    throw Error(ErrorKind::usage, shown(path) + ": a folder; name a file in it that ends in " +
                                      joined(writable_endings()));
  }
  throw Error(ErrorKind::usage, shown(path) + ": unknown ending '" + ending + "'; limpid writes " +
                                    joined(writable_endings()));
}

std::unique_ptr<ImageSource> open_source(const fs::path& path, const ReadOptions& options) {
  std::vector<std::byte> head;
  {
    const InputFile file(path);
    head = file.read_at(0, std::min<std::uint64_t>(file.size(), 4096));
  }
  for (const Format& format : formats()) {
    if (format.recognises(head)) return format.open(path, options.image);
  }
  const bool lzw = head.size() > 2 && head[0] == std::byte{0x1f} && head[1] == std::byte{0x9d};
  throw Error(ErrorKind::bad_input,
              shown(path) + (head.empty() ? ": the file is empty"
                             : lzw ? ": packed by compress; unpack it with `uncompress` first"
                                   : ": not a FITS, XISF, TIFF, PNG or JPEG file"));
}

void refuse_mosaic(const fs::path& path, const FrameInfo& info) {
  if (info.bayer.empty()) return;
  throw Error(ErrorKind::bad_input, shown(path) + ": a colour mosaic (" + info.bayer +
                                        "), not yet a picture; debayer it first");
}

/// Rows of about one megabyte: large enough to be fast, small enough to stay in the cache.
int rows_at_once(const FrameInfo& info) {
  const std::size_t row = sizeof(float) * static_cast<std::size_t>(info.channels * info.size.width);
  return static_cast<int>(std::clamp<std::size_t>((std::size_t{1} << 20) / row, 1,
                                                  static_cast<std::size_t>(info.size.height)));
}

/// The same pixels whatever part is read: one division, none when the scale is 1.
void divide(std::span<float> values, double scale, double offset) {
  if (scale == 1.0 && offset == 0.0) return;
  const auto divisor = static_cast<float>(scale);
  if (offset == 0.0) {
    for (float& value : values) value /= divisor;
  } else {
    for (float& value : values) {
      value = static_cast<float>((static_cast<double>(value) - offset) / scale);
    }
  }
}

MutableView rows_of(MutableView view, int y, int rows) {
  return view.crop({0, y, view.width(), rows});
}

float largest_in(ConstView view) {
  float largest = 0.0F;
  for (int channel = 0; channel < view.channels(); ++channel) {
    for (int y = 0; y < view.height(); ++y) {
      largest = std::max(largest, largest_finite(view.row(channel, y)));
    }
  }
  return largest;
}

SampleType stored_type(const Metadata& metadata, Depth depth, const Format& format) {
  SampleType wanted = metadata.sample_type;
  if (depth == Depth::u8) wanted = SampleType::u8;
  if (depth == Depth::u16) wanted = SampleType::u16;
  if (depth == Depth::f32) wanted = SampleType::f32;
  const auto has = [&](SampleType type) {
    return std::ranges::find(format.writable, type) != format.writable.end();
  };
  if (has(wanted)) return wanted;
  if (depth == Depth::f32) {
    throw Error(ErrorKind::usage,
                std::string(format.name) + " holds no floats; choose --depth u16 or u8");
  }
  return has(SampleType::f32) ? SampleType::f32 : SampleType::u16;
}

/// The scale that keeps the file's own units where the stored type can hold them.
double stored_scale(const Metadata& metadata, SampleType type) {
  if (type == metadata.sample_type) return metadata.scale;
  if (is_float(type)) return has_natural_white(metadata.sample_type) ? 1.0 : metadata.scale;
  // A float frame in 16-bit units keeps them; any other fills the range of the new type.
  return metadata.scale == sample_max(type) + 1.0 ? metadata.scale : sample_max(type);
}

/// Integers have an end; whoever asked for them should know what lies beyond it.
void count_clipped(const std::filesystem::path& path, const WriteJob& job) {
  if (is_float(job.type)) return;
  // Half a step beyond the ends still rounds to them.
  const double lowest = sample_min(job.type) - 0.5, highest = sample_max(job.type) + 0.5;
  const auto clipped = std::ranges::count_if(job.frame.image.pixels(), [&](float pixel) {
    const double stored = job.offset + job.scale * static_cast<double>(pixel);
    return stored < lowest || stored > highest;
  });
  if (clipped == 0) return;
  job.progress.say(shown(path) + ": " + std::to_string(clipped) +
                   " pixels do not fit into integers and were clipped; --depth f32 keeps them");
}

void require_combination(const fs::path& path, const Format& format, const WriteOptions& options) {
  if (std::ranges::find(format.compressions, options.compression) == format.compressions.end()) {
    throw Error(ErrorKind::usage, shown(path) + ": " + std::string(format.name) +
                                      " has no such compression; see docs/formats.md");
  }
  if (options.checksum != Checksum::none && !format.checksums) {
    throw Error(ErrorKind::usage, shown(path) + ": only XISF files carry checksums");
  }
}

/// Throws unless a file may appear there.
void require_place(const fs::path& path, const WriteOptions& options) {
  if (is_stream(path)) {
    if (::isatty(STDOUT_FILENO) == 0) return;
    throw Error(ErrorKind::usage,
                "standard output is a terminal; send the frame into a file or a program");
  }
  std::error_code error;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, error)) {
    throw Error(ErrorKind::cannot_write, shown(folder) + ": no such folder");
  }
  if (fs::is_directory(path, error)) {
    throw Error(ErrorKind::cannot_write, shown(path) + ": is a folder");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    throw Error(ErrorKind::cannot_write, shown(folder) + ": the folder cannot be written");
  }
  if (!options.overwrite && fs::exists(path, error)) {
    throw Error(ErrorKind::cannot_write, shown(path) + ": exists; use --overwrite to replace it");
  }
}

/// Other images of the frame's file, which only XISF carries over.
void tell_of_lost_images(const fs::path& path, const Format& format, const WriteJob& job) {
  const OtherImages& others = job.frame.metadata.others;
  if (others.indices.empty() || format.name == "xisf") return;
  job.progress.say(shown(path) + ": " + std::to_string(others.indices.size()) + " more images of " +
                   shown(others.file) + " are left out; an XISF file would hold them");
}

}  // namespace

void require_sane_size(const fs::path& path, long long width, long long height,
                       long long channels) {
  // 2^24 pixels a side is more than any detector or mosaic has, and products fit 64 bits.
  constexpr long long longest = 1LL << 24;
  if (width < 1 || height < 1 || channels < 1 || width > longest || height > longest ||
      channels > 1024) {
    throw Error(ErrorKind::bad_input, shown(path) + ": impossible image size " +
                                          std::to_string(width) + " x " + std::to_string(height) +
                                          " x " + std::to_string(channels));
  }
}

void require_image(const fs::path& path, int index, int count) {
  if (index >= 0 && index < count) return;
  throw Error(ErrorKind::bad_input, shown(path) + ": has no image " + std::to_string(index) +
                                        "; it holds " + std::to_string(count) +
                                        (count == 1 ? " image" : " images, counted from 0"));
}

std::string clean_text(std::string_view text) {
  std::string clean;
  for (const char c : text.substr(0, 200)) {
    clean += static_cast<unsigned char>(c) < 32 || c == 127 ? ' ' : c;
  }
  return clean;
}

}  // namespace io

TileReader::TileReader(const std::filesystem::path& path, const ReadOptions& options,
                       const Progress& progress)
    : source_(io::open_source(path, options)),
      info_(source_->info()) {
  io::refuse_mosaic(path, info_);
  if (info_.metadata.scale != 0.0) return;
  const int rows = io::rows_at_once(info_);
  Image band(info_.channels, {info_.size.width, rows});
  float largest = 0.0F;
  for (int y = 0; y < info_.size.height; y += rows) {
    progress.throw_if_stopped();
    const int count = std::min(rows, info_.size.height - y);
    const MutableView view = io::rows_of(band.view(), 0, count);
    source_->read({0, y, info_.size.width, count}, view);
    largest = std::max(largest, io::largest_in(view));
  }
  info_.metadata.scale = io::scale_for_largest(largest);
}

TileReader::~TileReader() = default;
TileReader::TileReader(TileReader&&) noexcept = default;
TileReader& TileReader::operator=(TileReader&&) noexcept = default;

Image TileReader::read(Rect rect) {
  assert(intersect(rect, {0, 0, info_.size.width, info_.size.height}) == rect);
  Image tile(info_.channels, rect.size());
  source_->read(rect, tile.view());
  io::divide(tile.pixels(), info_.metadata.scale, info_.metadata.offset);
  return tile;
}

Image read_tile(const std::filesystem::path& path, Rect rect, const ReadOptions& options) {
  return TileReader(path, options).read(rect);
}

Image in_scale_of(Frame frame, const Metadata& other) {
  const Metadata& own = frame.metadata;
  if (own.scale != other.scale || own.offset != other.offset) {
    for (float& pixel : frame.image.pixels())
      pixel = static_cast<float>((own.stored(pixel) - other.offset) / other.scale);
  }
  return std::move(frame.image);
}

Frame read_frame(const std::filesystem::path& path, const ReadOptions& options,
                 const Progress& progress) {
  const auto source = io::open_source(path, options);
  const FrameInfo& info = source->info();
  io::refuse_mosaic(path, info);
  Frame frame{Image::unset(info.channels, info.size), info.metadata};
  if (info.image_count > 1 && frame.metadata.others.indices.empty()) {
    frame.metadata.notes.push_back(io::shown(path) + ": image " + std::to_string(options.image) +
                                   " of " + std::to_string(info.image_count) +
                                   ", counted from 0; the others stay behind");
  }
  const int rows = io::rows_at_once(info), bands = (info.size.height + rows - 1) / rows;
  std::mutex mutex;
  float largest = 0.0F;
  int done = 0;
  parallel_for(bands, source->concurrent() ? options.threads : 1, [&](int band) {
    progress.throw_if_stopped();
    const int y = band * rows, count = std::min(rows, info.size.height - y);
    const MutableView view = io::rows_of(frame.image.view(), y, count);
    source->read({0, y, info.size.width, count}, view);
    const float largest_here = info.metadata.scale == 0.0 ? io::largest_in(view) : 0;
    const std::scoped_lock lock(mutex);
    largest = std::max(largest, largest_here);
    progress(static_cast<double>(++done) / bands, "reading");
  });
  if (frame.metadata.scale == 0.0) frame.metadata.scale = io::scale_for_largest(largest);
  io::divide(frame.image.pixels(), frame.metadata.scale, frame.metadata.offset);
  return frame;
}

FrameInfo read_info(const std::filesystem::path& path, const ReadOptions& options) {
  FrameInfo info = io::open_source(path, options)->info();
  if (info.metadata.scale == 0.0) info.metadata.scale = 1.0;
  return info;
}

void write_frame(const std::filesystem::path& path, const Frame& frame, const WriteOptions& options,
                 const Progress& progress) {
  const io::Format& format = io::format_for_writing(path, options, frame.metadata.format);
  io::require_combination(path, format, options);
  io::require_place(path, options);
  const int channels = frame.image.channels();
  if (frame.image.empty() || (channels != 1 && channels != 3)) {
    throw Error(ErrorKind::cannot_write, io::shown(path) + ": " + std::to_string(channels) +
                                             " channels; a frame has 1 or 3");
  }
  const SampleType type = io::stored_type(frame.metadata, options.depth, format);
  const bool same = type == frame.metadata.sample_type;
  const io::WriteJob job{
      frame,   type,    io::stored_scale(frame.metadata, type), same ? frame.metadata.offset : 0.0,
      options, progress};
  io::count_clipped(path, job);
  io::tell_of_lost_images(path, format, job);
  io::OutputFile file(path, options.overwrite);
  format.write(file, job);
  progress.throw_if_stopped();
  file.commit();
}

void check_writable(const std::filesystem::path& path, const WriteOptions& options) {
  // What standard output gets may depend on the frame.
  const bool known = !io::is_stream(path) || !options.format.empty();
  if (known) io::require_combination(path, io::format_for_writing(path, options, {}), options);
  io::require_place(path, options);
}

std::vector<std::string> writable_endings() {
  std::vector<std::string> endings;
  for (const io::Format& format : io::formats()) {
    endings.insert(endings.end(), format.endings.begin(), format.endings.end());
  }
  return endings;
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const io::Format& format : io::formats()) names.emplace_back(format.name);
  return names;
}

}  // namespace limpid
