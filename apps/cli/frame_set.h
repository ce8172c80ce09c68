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
};
/// `masks` and `psfs`: folders with a file of the frame's own name (any ending) for each frame that
/// has one; or empty.
FrameFiles open_frames(const std::vector<std::filesystem::path>& paths,
                       const std::filesystem::path& masks, const std::filesystem::path& psfs);

/// The file in `folder` whose name without ending is that of `frame`.
std::optional<std::filesystem::path> companion(const std::filesystem::path& folder,
                                               const std::filesystem::path& frame);

/// The WCS and pixel size of a grid with `factor` times the pixels per side: CRPIX, CD, CDELT,
/// SIP terms, XPIXSZ, YPIXSZ, and the sensor's pixel size among XISF properties. PixInsight's own
/// astrometric solution, splines and all, is of the grid it was made for and goes: the cards stay.
void refine_grid(Metadata& metadata, int factor);

/// The file of a run inside its folder, whole or not at all.
class Checkpoint {
 public:
  /// `fingerprint` stands for the frames and options: only their own checkpoint is taken up again.
  Checkpoint(std::filesystem::path folder, std::string fingerprint);
  void save(const MultiframeState& state) const;
  /// Nothing when there is none. Throws Error(usage) for one of another run, Error(bad_input) for
  /// one that is not as it was written.
  [[nodiscard]] std::optional<MultiframeState> load() const;
  void remove() const;

 private:
  std::filesystem::path file_;
  std::string fingerprint_;
};
/// Of names, sizes and times of files and of a text with the options.
std::string fingerprint_of(const std::vector<std::filesystem::path>& paths, const std::string& options);

/// The convergence of a run and the width, weight and losses of its frames.
std::string convergence_svg(const MultiframeReport& report);

}  // namespace limpid::cli
