// What the page works on: one open frame, its result, and the one job that runs.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <limpid/deconvolve.h>
#include <limpid/io.h>
#include <limpid/network.h>
#include <limpid/picture.h>

#include "cli/deconvolve.h"
#include "cli/measure.h"
#include "web/folder.h"

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
  /// The options of `limpid deconvolve`, as --schema prints them.
  [[nodiscard]] static Json schema();
  [[nodiscard]] Json models() const;
  /// Everything that a page shows but pixels.
  [[nodiscard]] Json state() const;
  /// Waits until the state is another than `seen`, or for a second; its number.
  std::uint64_t wait_for_change(std::uint64_t seen) const;

  Json open(const std::string& name);
  void close();
  /// {"options": {...}, "region": [x, y, width, height]}: waits for the pixels; a newer request
  /// makes it throw Error(interrupted).
  Json preview(const Json& request);
  /// {"options": {...}}: starts and returns.
  void run(const Json& request);
  void measure();
  void cancel();
  void forget_result();
  /// {"name", "options": {"depth"}, "overwrite", "what": "result" or "trust"}
  Json save(const Json& request);
  /// {"options", "name", "overwrite"}: the command line that does the same.
  Json command(const Json& request) const;

  /// Part of a layer as PNG. `level` halves it so many times.
  [[nodiscard]] std::vector<std::byte> picture(const std::string& layer, int level, Rect rect,
                                               const Look& look) const;
  [[nodiscard]] Json histogram(const std::string& layer, const Look& look) const;
  [[nodiscard]] Json pixel(int x, int y) const;
  [[nodiscard]] Json measurement() const;
  [[nodiscard]] Json report() const;

  /// Ends the job and every wait.
  void stop();

 private:
  struct OpenFrame;
  struct Outcome;
  struct Preview;
  struct Task;

  std::shared_ptr<OpenFrame> frame() const;
  std::string new_id(const char* kind);
  Json with_defaults(const Json& request) const;
  void work(const std::stop_token& over);
  void perform(Task& task);
  void perform_run(Task& task, const Progress& progress);
  void perform_preview(Task& task, const Progress& progress);
  std::shared_ptr<const Network> network(const cli::DeconvolveArguments& arguments);
  Progress progress_of(const std::shared_ptr<Task>& task);
  // with the mutex held
  void drop_waiting(const char* why);
  void changed();

  const Folder folder_;
  const int threads_;
  mutable std::mutex mutex_;
  mutable std::condition_variable change_, task_ready_;
  std::uint64_t version_ = 1;
  bool stopped_ = false;
  std::uint64_t next_id_;

  std::shared_ptr<OpenFrame> frame_;
  std::shared_ptr<const Outcome> outcome_;
  std::deque<std::shared_ptr<const Preview>> previews_;  ///< newest first
  Json error_;
  std::vector<std::string> notes_;

  std::shared_ptr<Task> running_;
  std::deque<std::shared_ptr<Task>> waiting_;

  std::string network_key_;
  std::shared_ptr<const Network> network_;
  std::jthread worker_;
};

}  // namespace limpid::web
