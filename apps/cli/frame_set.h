// The files behind `limpid mfdeconv`: frames with their masks and PSFs, headers, checkpoints.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <limpid/io.h>
#include <limpid/multiframe.h>

namespace limpid::cli {

/// Frames that stay open to be read by parts. One that cannot be opened carries its fault.
struct FrameFiles {
  std::vector<InputFrame> frames;
  std::vector<Metadata> metadata;
  double unit = 1;  ///< what the unit that all share is in the files' own numbers
};
/// Gives the frames another unit to share.
void share_unit(FrameFiles& files, double unit);
/// `masks` and `psfs`: folders with a file of the frame's own name (any ending) for each frame that
/// has one; or empty.
FrameFiles open_frames(const std::vector<std::filesystem::path>& paths,
                       const std::filesystem::path& masks, const std::filesystem::path& psfs);

/// The file in `folder` whose name without ending is that of `frame`.
std::optional<std::filesystem::path> companion(const std::filesystem::path& folder,
                                               const std::filesystem::path& frame);

/// A file that decides what a run makes.
struct FileRead {
  std::filesystem::path path;
  int frame = -1;  ///< input frame that it is read for; -1: all
};

/// What is kept of a run.
struct KeptRun {
  MultiframeState state;
  double unit = 1;  ///< FrameFiles::unit
};

/// The file of a run inside its folder, whole or not at all.
class Checkpoint {
 public:
  /// Only a checkpoint of the same files, by name, size and time, and options is taken up again. Of
  /// frames that were lost on the way only the name counts.
  Checkpoint(std::filesystem::path folder, std::vector<FileRead> files, std::string options);
  void save(const MultiframeState& state, double unit) const;
  /// Nothing when there is none. Throws Error(usage) for one of another run, Error(bad_input) for
  /// one that is not as it was written.
  [[nodiscard]] std::optional<KeptRun> load() const;
  void remove() const;

 private:
  [[nodiscard]] std::string fingerprint(const std::vector<int>& lost) const;

  std::filesystem::path file_;
  std::vector<FileRead> files_;
  std::vector<std::string> stamps_;  ///< size and time of the files when the run began
  std::string options_;
};

/// The convergence of a run and the width, weight and losses of its frames.
std::string convergence_svg(const MultiframeReport& report);

}  // namespace limpid::cli
