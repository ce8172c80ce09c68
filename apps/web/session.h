// What the page works on: one open frame, what was made of it, and the one job that runs.
// session.cpp has its life, opening.cpp what is open, jobs.cpp the queue, deconvolving.cpp, sky.cpp
// and frames.cpp the work of the three commands, layers.cpp pixels and saving.cpp files.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <limpid/background.h>
#include <limpid/deconvolve.h>
#include <limpid/error.h>
#include <limpid/io.h>
#include <limpid/network.h>
#include <limpid/picture.h>

#include "cli/command.h"
#include "web/folder.h"
#include "web/points_files.h"

namespace limpid::cli {
struct BackgroundArguments;
struct DeconvolveArguments;
}  // namespace limpid::cli

namespace limpid::web {

/// Something that was there and is no more, or never was: the page is to look again.
class Gone : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
/// Another job runs.
class Busy : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// How a picture is shown.
struct Look {
  float sky = 0.25F;
  bool linked = false;
};

/// All pages that are open show the same session. Every function may be called from any thread.
/// Places that the page names count rows from the top of the picture; those of the library, along
/// stored rows.
class Session {
 public:
  Session(Folder folder, int threads);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  using Json = nlohmann::ordered_json;

  [[nodiscard]] const Folder& folder() const { return folder_; }
  /// The options of a command, as --schema prints them.
  [[nodiscard]] static Json schema(const std::string& command);
  [[nodiscard]] Json models() const;
  /// Everything that a page shows but pixels, and the longer reports.
  [[nodiscard]] Json state() const;
  /// Waits until the state is another than `seen`, or for a second; its number.
  std::uint64_t wait_for_change(std::uint64_t seen) const;

  /// Returns once there is something to see; of a large frame a glance. What needs it all waits.
  Json open(const std::string& name);
  void close();

  // These wait for what was asked; a newer one makes them throw Error(interrupted).
  /// {"options", "region": [x, y, width, height], "rough"}: pixels as `limpid deconvolve --region`
  /// makes them; rough: quickly, by the stars around the view alone.
  Json preview(const Json& request);
  /// {"options"}: the sky as `limpid background` models it; with "points" as --points has them,
  /// which may name those that were "removed", for the "correction" to fade there.
  Json fit_sky(const Json& request);

  // These start and return.
  /// {"command": "deconvolve" or "background", "options"}: the whole frame.
  void run(const Json& request);
  /// {"options", "frames": [name], "name", "overwrite"}: `limpid mfdeconv`, whose result is opened.
  void combine(const Json& request);
  void measure();
  void cancel();
  void forget_result();

  /// {"name", "options": {"depth"}, "overwrite", "what": "result", "trust", "model" or "points"}
  Json save(const Json& request);
  /// {"command", "options", "name", "overwrite", "frames"}: the command line that does the same,
  /// and a file that it "needs".
  Json command(const Json& request) const;

  /// Part of a layer as PNG. `level` halves it so many times.
  [[nodiscard]] std::vector<std::byte> picture(const std::string& layer, int level, Rect rect,
                                               const Look& look) const;
  /// What the fit of a sky left out, as PNG: white is sky.
  [[nodiscard]] std::vector<std::byte> sky_mask(const std::string& layer) const;
  [[nodiscard]] Json histogram(const std::string& layer, const Look& look) const;
  [[nodiscard]] Json pixel(int x, int y) const;

  // Reports. Each throws Gone when there is none.
  [[nodiscard]] Json measurement() const;
  [[nodiscard]] Json report() const;
  [[nodiscard]] Json sky() const;
  [[nodiscard]] Json combination() const;

  /// Ends the job and every wait.
  void stop();

 private:
  struct Glance;
  struct OpenFrame;
  struct Outcome;
  struct Preview;
  struct Sky;
  struct Combination;
  struct Task;

  /// The open frame; waits while one is being read.
  std::shared_ptr<OpenFrame> frame() const;
  std::string new_id(const char* kind);
  /// Nothing for what is read at once, or can only be read as a whole.
  std::shared_ptr<const Glance> glance_at(const std::string& name);
  std::shared_ptr<OpenFrame> load(const std::string& name, const Progress& progress = {});
  void load_behind(const std::shared_ptr<const Glance>& glance, const std::stop_token& stop);
  /// One of the two, or neither. Where `instead` is given, nothing unless that is what is shown.
  void show(const std::shared_ptr<OpenFrame>& opened,
            const std::shared_ptr<const Glance>& glance = nullptr,
            const std::shared_ptr<const Glance>& instead = nullptr);

  /// What the command's parser makes of options; checked as far as that is possible beforehand.
  cli::DeconvolveArguments deconvolve_arguments(const OpenFrame& open, const Json& options) const;
  cli::BackgroundArguments background_arguments(const OpenFrame& open, const Json& options) const;
  /// The words of `limpid COMMAND INPUT... -o OUTPUT ...`.
  std::vector<std::string> words_of(const std::string& command,
                                    const std::vector<std::filesystem::path>& inputs,
                                    const std::filesystem::path& output, bool overwrite,
                                    const Json& options) const;
  std::vector<std::string> words_of_request(const Json& request) const;
  /// Model or control points; the command line that writes the same.
  Json write(const Json& request);
  std::string save_sky(const OpenFrame& open, const Sky& sky, const std::string& what,
                       const std::filesystem::path& path, bool overwrite);

  Json wait_for(const std::shared_ptr<Task>& task);
  void start(const std::shared_ptr<Task>& task);
  void work(const std::stop_token& over);
  void perform(const std::shared_ptr<Task>& task);
  Progress progress_of(const std::shared_ptr<Task>& task);
  void perform_measure(Task& task, const Progress& progress);
  void perform_preview(Task& task, const Progress& progress);
  void perform_deconvolve(Task& task, const Progress& progress);
  void perform_fit(Task& task, const Progress& progress);
  void perform_background(Task& task, const Progress& progress);
  void perform_combine(Task& task, const Progress& progress);
  [[nodiscard]] std::string preview_made_by(const Task& task) const;
  std::shared_ptr<const Network> network(const cli::DeconvolveArguments& arguments);
  std::shared_ptr<const Sky> sky_of(Task& task, const Progress& progress);
  void keep(const Task& task, const std::shared_ptr<Outcome>& outcome);

  /// Without the path of the folder, which the page need not know.
  [[nodiscard]] std::string told(std::string text) const;
  /// What the body gives, or its error told so.
  template <typename Body>
  auto telling(const Body& body) const {
    try {
      return body();
    } catch (const Error& error) {
      throw Error(error.kind(), told(error.what()));
    }
  }

  // with the mutex held
  void drop_waiting(const char* why);
  /// What is wanted while somebody looks gives way to what is asked for now.
  void drop_shown();
  /// An exact preview that was made before: of this region, or for a rough one of it and more.
  std::shared_ptr<const Preview> known_preview(const Task& task);
  void refuse_during_run() const;
  void changed();

  const Folder folder_;
  const int threads_;
  mutable std::mutex mutex_;
  mutable std::condition_variable change_, task_ready_;
  std::uint64_t version_ = 1;
  bool stopped_ = false;
  std::uint64_t next_id_;

  std::shared_ptr<OpenFrame> frame_;
  std::shared_ptr<const Glance> glance_;  ///< shown until frame_ is there
  std::shared_ptr<const Outcome> outcome_;
  std::deque<std::shared_ptr<const Preview>> previews_;  ///< newest first
  std::deque<std::shared_ptr<const Sky>> skies_;         ///< newest first
  std::shared_ptr<const Combination> combination_;
  PointsFiles points_files_;
  Json error_;
  std::vector<std::string> notes_;
  std::shared_ptr<Task> running_;
  std::deque<std::shared_ptr<Task>> waiting_;

  std::string network_key_;
  std::shared_ptr<const Network> network_;
  std::jthread worker_;
  std::mutex opening_;  ///< one frame is opened at a time
  std::stop_source stop_loading_;
  std::jthread loader_;
};

}  // namespace limpid::web
