// What a session is made of; for its own files alone.
#pragma once

#include <chrono>
#include <exception>
#include <map>
#include <optional>

#include <limpid/background.h>
#include <limpid/deconvolve.h>

#include "cli/background.h"
#include "cli/deconvolve.h"
#include "cli/mfdeconv.h"
#include "web/session.h"

namespace limpid::web {

using Json = Session::Json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start);

// Parts of a request. Each throws Error(usage).
std::string text_of(const Json& request, const char* key);
std::string text_of(const Json& request, const char* key, const char* otherwise);
bool flag_of(const Json& request, const char* key);
Json options_of(const Json& request);

/// The picture as the eye should see it: files may have their last row first.
ConstView upright(ConstView stored, bool bottom_up);

/// What a page is told of a frame.
Json description(const std::string& id, const std::string& name, Size size, int channels,
                 int levels, const Metadata& metadata);

/// Sparse pixels of a large frame that is still being read.
struct Session::Glance {
  Glance(std::string own_id, std::string own_name, TileReader& reader);

  std::string id, name;
  FrameInfo info;
  int levels = 0;  ///< that the frame will have
  int level = 0;   ///< that these pixels stand for
  Image image;

  [[nodiscard]] Json described() const;
  /// As the frame will show them: finer levels by larger pixels.
  [[nodiscard]] Image part(int wanted_level, Rect rect) const;
};

struct Session::OpenFrame {
  OpenFrame(std::string own_id, std::string own_name, std::filesystem::path own_path, Frame own,
            int threads);

  std::string id, name;
  std::filesystem::path path;
  Frame frame;
  Pyramid pyramid;
  double open_seconds = 0;
  bool mosaic;  ///< of a colour camera, not yet debayered

  // the worker's own
  Deconvolver deconvolver;
  BackgroundFitter fitter;
  std::string exact;        ///< what the last exact preview or run rested on
  float request_ratio = 1;  ///< sharpening that it requested of the network, over that asked for
  Rect part;                ///< around the view, for rough previews
  std::optional<Deconvolver> part_deconvolver;
  std::filesystem::path mask_path;
  std::filesystem::file_time_type mask_changed;
  std::optional<Frame> mask;

  // under the session's mutex
  std::shared_ptr<const Json> measurement;

  [[nodiscard]] Size size() const { return frame.image.size(); }
  [[nodiscard]] Json described() const;
  /// Between rows counted from the top and stored rows; its own inverse.
  [[nodiscard]] Rect turned(Rect r) const;
  [[nodiscard]] float turned(float y) const;
  [[nodiscard]] float turned_angle(float angle) const;
  /// Where the pixels of a picture lie in the stored frame.
  [[nodiscard]] Sampling places(int level, Rect rect) const;
  [[nodiscard]] Stretch stretch(const Look& look) const;
  /// Read anew when the file has changed. Empty without a path.
  ConstView mask_at(const std::filesystem::path& mask);

 private:
  mutable std::mutex stretch_mutex_;
  mutable std::map<std::pair<float, bool>, Stretch> stretches_;
};

/// The result of a run over the whole frame.
struct Session::Outcome {
  Outcome(std::string own_command, Frame own, Image own_trust_map, int threads);

  std::string id, command;
  Frame frame;  ///< without dither, which depends on the depth of the file
  Image trust_map;
  Pyramid pyramid;
  std::optional<Pyramid> trust_pyramid;
  Json options, report;
  std::string model;                             ///< of the network; empty where there is none
  std::shared_ptr<const Background> background;  ///< that was taken out, if one was
  double seconds = 0;
};

struct Session::Preview {
  Preview(Rect own_region, Image own, bool bottom_up, int threads);

  std::string id;
  Rect region;  ///< along stored rows
  Image image;
  Pyramid pyramid;      ///< upright; seen from afar it is as smooth as the frame around it
  std::string made_by;  ///< the frame, and all else that its pixels depend on; empty: a rough one
  Json answer;          ///< what the page was told of it
};

/// A fitted sky, and how it is taken out; pixels are made when they are asked for.
struct Session::Sky {
  std::string id;
  Json options;
  std::string rests_on;  ///< all that the model depends on
  std::shared_ptr<const Background> background;
  RemoveOptions removal;
};

/// A run of `limpid mfdeconv`.
struct Session::Combination {
  std::string id;
  std::string output;  ///< name in the folder
  std::vector<IterationSummary> iterations;
  std::shared_ptr<const Json> report;  ///< once it is done
};

struct Session::Task {
  enum class Kind { run, measure, preview, fit, combine } kind = Kind::run;
  std::shared_ptr<OpenFrame> frame;
  std::string command;
  Json options;
  cli::DeconvolveArguments deconvolve;
  cli::BackgroundArguments background;
  cli::MultiframeArguments multiframe;
  std::string line;  ///< the command line, where a file is written
  Rect region;
  bool rough = false;
  std::string made_by;  ///< see Preview
  std::stop_source stop;
  // under the session's mutex
  bool done = false;
  std::exception_ptr failure;
  Json answer;
  double fraction = 0;
  std::string stage;
  Clock::time_point start = Clock::now(), told = start;

  /// Works on a whole frame, or several: nothing else is begun meanwhile.
  [[nodiscard]] bool is_long() const { return kind == Kind::run || kind == Kind::combine; }
  /// Is wanted while somebody looks: a newer one takes its place.
  [[nodiscard]] bool is_shown() const { return kind == Kind::preview || kind == Kind::fit; }
};

}  // namespace limpid::web
