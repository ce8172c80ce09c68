#include "frame_set.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iomanip>
#include <limits>
#include <memory>
#include <span>
#include <sstream>
#include <system_error>

#include "outputs.h"

namespace limpid::cli {
namespace {

namespace fs = std::filesystem;

}  // namespace

std::optional<fs::path> companion(const fs::path& folder, const fs::path& frame) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw Error(ErrorKind::bad_input, folder.string() + ": no such folder");
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().stem() == frame.stem()) found.push_back(entry.path());
  }
  if (found.empty()) return std::nullopt;
  return *std::ranges::min_element(found);
}

namespace {

/// A folder that names no frame is a slip of the hand, which would else go unseen.
void require_companions(const fs::path& folder, const std::vector<fs::path>& frames) {
  if (folder.empty()) return;
  if (std::ranges::none_of(frames,
                           [&](const fs::path& frame) { return companion(folder, frame).has_value(); }))
    throw Error(ErrorKind::bad_input, folder.string() + ": no file in it is named like a frame");
}

/// Marks of a frame, in the numbers of their file: 1 and 255 both mean that a pixel is rejected.
std::function<Image(Rect)> open_mask(const fs::path& path, Size frame) {
  const auto reader = std::make_shared<TileReader>(path);
  const Size size = reader->info().size;
  if (size.width < frame.width || size.height < frame.height)
    throw Error(ErrorKind::bad_input, path.string() + ": smaller than its frame");
  return [reader](Rect rect) {
    Image marks = reader->read(rect);
    for (float& mark : marks.pixels())
      mark = static_cast<float>(reader->info().metadata.stored(mark));
    return marks;
  };
}

/// A PSF that says nothing would only be found out when all frames are measured.
Image read_psf(const fs::path& path) {
  Image psf = read_frame(path).image;
  if (std::ranges::none_of(psf.pixels(), [](float value) { return value > 0; }))
    throw Error(ErrorKind::bad_input, path.string() + ": no light in this PSF");
  return psf;
}

constexpr const char* noise_keyword = "LMFN", *history_keyword = "LMFH", *lost_keyword = "LMFL";

void append(Metadata& metadata, const char* keyword, const std::vector<float>& values) {
  std::array<char, 40> text{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::snprintf(text.data(), text.size(), "%.9G", static_cast<double>(values[i]));
    metadata.cards.push_back({keyword + std::to_string(1000 + i), text.data(), "", true});
  }
}

std::vector<float> collect(const Metadata& metadata, const std::string& keyword) {
  std::vector<float> values;
  while (const auto value = metadata.card(keyword + std::to_string(1000 + values.size())))
    values.push_back(std::strtof(value->c_str(), nullptr));
  return values;
}

}  // namespace

FrameFiles open_frames(const std::vector<fs::path>& paths, const fs::path& masks,
                       const fs::path& psfs) {
  require_companions(masks, paths);
  require_companions(psfs, paths);
  FrameFiles files;
  for (const fs::path& path : paths) {
    InputFrame frame;
    frame.name = path.string();
    Metadata metadata;
    try {
      const auto reader = std::make_shared<TileReader>(path);
      frame.size = reader->info().size;
      frame.channels = reader->info().channels;
      metadata = reader->info().metadata;
      frame.read = [reader](Rect rect) { return reader->read(rect); };
      if (!masks.empty()) {
        if (const auto mask = companion(masks, path)) frame.rejected = open_mask(*mask, frame.size);
      }
      if (!psfs.empty()) {
        if (const auto psf = companion(psfs, path)) frame.psf = read_psf(*psf);
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_input || paths.size() == 1) throw;
      frame.fault = error.what();
    }
    files.frames.push_back(std::move(frame));
    files.metadata.push_back(std::move(metadata));
  }
  // Floats are scaled by a power of two that each frame chooses by its own brightest pixel, integers by
  // their range: shared units are the files' own numbers.
  for (std::size_t i = 0; i < files.frames.size(); ++i) {
    if (!files.frames[i].fault.empty()) continue;
    share_unit(files, files.metadata[i].scale);
    break;
  }
  return files;
}

void share_unit(FrameFiles& files, double unit) {
  files.unit = unit;
  for (std::size_t i = 0; i < files.frames.size(); ++i) {
    if (files.frames[i].fault.empty()) files.frames[i].unit = files.metadata[i].scale / unit;
  }
}

namespace {

/// FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923)
class Fnv {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) hash_ = (hash_ ^ std::to_integer<std::uint64_t>(b)) * prime;
  }
  void add(const std::string& text) {
    const std::string line = text + '\n';
    add(std::as_bytes(std::span(line)));
  }
  /// Whatever NaN a file makes of another, it is one.
  void add(std::span<const float> values) {
    for (const float value : values) {
      const std::array one{std::isnan(value) ? std::numeric_limits<float>::quiet_NaN() : value};
      add(std::as_bytes(std::span(one)));
    }
  }
  [[nodiscard]] std::string text() const {
    std::array<char, 20> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash_));
    return text.data();
  }

 private:
  static constexpr std::uint64_t prime = 0x100000001b3ULL;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

/// Of all that a checkpoint holds.
std::string checksum_of(const MultiframeState& state) {
  Fnv sum;
  sum.add(std::to_string(state.iteration));
  sum.add(std::span<const float>(state.estimate.pixels()));
  sum.add(std::span<const float>(state.noise));
  sum.add(std::span<const float>(state.history));
  for (const int index : state.lost) sum.add(std::to_string(index));
  return sum.text();
}

/// At most so many bytes of UTF-8, whole characters.
std::string shortened(const std::string& text, std::size_t most) {
  std::size_t end = std::min(most, text.size());
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U)
    --end;
  return text.substr(0, end);
}

}  // namespace

Checkpoint::Checkpoint(fs::path folder, std::vector<FileRead> files, std::string options)
    : file_(std::move(folder) / "mfdeconv-checkpoint.fits"),
      files_(std::move(files)),
      options_(std::move(options)) {
  make_writable_folder(file_.parent_path());
  for (const FileRead& file : files_) {
    std::error_code error;
    const auto size = fs::file_size(file.path, error);
    const auto time = fs::last_write_time(file.path, error);
    stamps_.push_back(std::to_string(size) + '\n' +
                      (error ? "" : std::to_string(time.time_since_epoch().count())));
  }
}

std::string Checkpoint::fingerprint(const std::vector<int>& lost) const {
  Fnv hash;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const FileRead& file = files_[i];
    const bool is_lost = std::ranges::find(lost, file.frame) != lost.end();
    // what belongs to a frame beside itself may be gone, name and all
    if (is_lost && i > static_cast<std::size_t>(file.frame)) continue;
    hash.add(file.path.string());
    hash.add(is_lost ? "lost" : stamps_[i]);
  }
  hash.add(options_);
  return hash.text();
}

void Checkpoint::save(const MultiframeState& state, double unit) const {
  Frame frame;
  frame.image = state.estimate.clone();
  frame.metadata.format = "fits";
  frame.metadata.cards.push_back({"LMFRUN", fingerprint(state.lost), "frames and options", true});
  std::array<char, 40> unit_text{};
  std::snprintf(unit_text.data(), unit_text.size(), "%.17G", unit);
  frame.metadata.cards.push_back({"LMFUNIT", unit_text.data(), "that the frames share", true});
  frame.metadata.cards.push_back({"LMFITER", std::to_string(state.iteration), "iterations done", false});
  frame.metadata.cards.push_back({"LMFSUM", checksum_of(state), "of what is kept here", true});
  append(frame.metadata, noise_keyword, state.noise);
  append(frame.metadata, history_keyword, state.history);
  append(frame.metadata, lost_keyword, std::vector<float>(state.lost.begin(), state.lost.end()));
  write_frame(file_, frame, {.depth = Depth::f32, .overwrite = true});
}

std::optional<KeptRun> Checkpoint::load() const {
  std::error_code error;
  if (!fs::exists(file_, error)) return std::nullopt;
  Frame frame = read_frame(file_);
  KeptRun kept;
  MultiframeState& state = kept.state;
  for (const float index : collect(frame.metadata, lost_keyword))
    state.lost.push_back(static_cast<int>(index));
  if (frame.metadata.card("LMFRUN") != fingerprint(state.lost)) {
    throw Error(ErrorKind::usage, file_.string() +
                                      ": belongs to other frames or options; use another folder, "
                                      "or leave out --resume");
  }
  kept.unit = std::strtod(frame.metadata.card("LMFUNIT").value_or("").c_str(), nullptr);
  state.iteration = std::atoi(frame.metadata.card("LMFITER").value_or("0").c_str());
  const auto scale = static_cast<float>(frame.metadata.scale);  // a power of two: no bit is lost
  for (float& value : frame.image.pixels()) value *= scale;
  state.estimate = std::move(frame.image);
  state.noise = collect(frame.metadata, noise_keyword);
  state.history = collect(frame.metadata, history_keyword);
  if (frame.metadata.card("LMFSUM") != checksum_of(state) || !(kept.unit > 0))
    throw Error(ErrorKind::bad_input,
                file_.string() + ": damaged; begin anew without --resume");
  return kept;
}

void Checkpoint::remove() const {
  std::error_code ignored;
  fs::remove(file_, ignored);
  fs::remove(file_.parent_path(), ignored);  // when nothing else is in it
}

std::string convergence_svg(const MultiframeReport& report) {
  constexpr double left = 70, width = 560, top = 40, height = 220, bottom = top + height;
  std::ostringstream svg;
  const double frame_height = 16.0 * static_cast<double>(report.frames.size());
  svg << std::fixed << std::setprecision(2)
      << "<svg xmlns='http://www.w3.org/2000/svg' font-family='sans-serif' font-size='12' width='700' "
         "height='"
      << bottom + 120 + frame_height << "'>\n<rect width='100%' height='100%' fill='white'/>\n"
      << "<text x='70' y='24' font-size='14'>Change of the light per iteration (logarithmic)</text>\n"
      << "<rect x='" << left << "' y='" << top << "' width='" << width << "' height='" << height
      << "' fill='none' stroke='#888'/>\n";
  constexpr double decades = 4;  // 1 to 1e-4
  const auto y_of = [&](double value) {
    return top + height * std::clamp(-std::log10(std::max(value, 1e-9)) / decades, 0.0, 1.0);
  };
  for (int decade = 0; decade <= 4; ++decade) {
    const double y = top + height * decade / decades;
    svg << "<line x1='" << left << "' y1='" << y << "' x2='" << left + width << "' y2='" << y
        << "' stroke='#ddd'/><text x='62' y='" << y + 4 << "' text-anchor='end'>"
        << (decade == 0 ? "1" : "1e-" + std::to_string(decade)) << "</text>\n";
  }
  const double count = std::max<double>(1, static_cast<double>(report.iterations.size()));
  const auto x_of = [&](int iteration) { return left + width * iteration / count; };
  for (const auto& [member, colour, name, at] :
       {std::tuple{&IterationSummary::update, "#2c5fb3", "|factor - 1|", 0},
        std::tuple{&IterationSummary::change, "#c0392b", "relative change", 1}}) {
    svg << "<polyline fill='none' stroke-width='2' stroke='" << colour << "' points='";
    for (const IterationSummary& step : report.iterations)
      svg << x_of(step.iteration) << ',' << y_of(step.*member) << ' ';
    svg << "'/>\n<text x='" << left + width - 150 << "' y='" << top + 18 + 16 * at << "' fill='" << colour
        << "'>" << name << "</text>\n";
  }
  for (const IterationSummary& step : report.iterations) {
    const int every = std::max(1, static_cast<int>(count) / 10);
    if (step.iteration % every == 0)
      svg << "<text x='" << x_of(step.iteration) << "' y='" << bottom + 16 << "' text-anchor='middle'>"
          << step.iteration << "</text>\n";
  }
  double y = bottom + 50;
  svg << "<text x='70' y='" << y << "' font-size='14'>Frames: FWHM in px (bar), weight, rejected</text>\n";
  double widest = 1;
  for (const FrameSummary& frame : report.frames) widest = std::max(widest, frame.fwhm_px);
  for (const FrameSummary& frame : report.frames) {
    y += 16;
    std::string name;
    for (const char c : shortened(std::filesystem::path(frame.name).filename().string(), 34))
      name += c == '<' || c == '&' || static_cast<unsigned char>(c) < ' ' ? '_' : c;
    svg << "<text x='70' y='" << y << "'>" << name << "</text>";
    if (frame.used) {
      svg << "<rect x='300' y='" << y - 10 << "' width='" << 160 * frame.fwhm_px / widest
          << "' height='11' fill='#9db8dc'/><text x='306' y='" << y << "'>" << frame.fwhm_px
          << "</text><text x='480' y='" << y << "'>" << 100 * frame.weight << " %</text><text x='560' y='"
          << y << "'>" << 100 * frame.rejected << " %</text>\n";
    } else {
      svg << "<text x='300' y='" << y << "' fill='#c0392b'>left out</text>\n";
    }
  }
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace limpid::cli
