// The files of control points that were put by hand: commands read them from there.
#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <string>

#include <nlohmann/json.hpp>

#include "web/folder.h"

namespace limpid {
class Background;
}

namespace limpid::web {

/// As --points takes them.
std::string points_text(const Background& background);

/// Which points of a frame lie in which file. May be used from any thread.
class PointsFiles {
 public:
  using Path = std::filesystem::path;
  using Json = nlohmann::ordered_json;

  /// Where points lie, or are to lie.
  [[nodiscard]] Path of(const Path& frame, const Json& points) const;
  /// Whether they have been written, and are still there.
  [[nodiscard]] bool has(const Path& frame, const Json& points) const;
  void remember(const Path& frame, const Json& points, const Path& file);
  /// Writes the points that a background has, unless they lie there.
  void keep(const Folder& folder, const Path& frame, const Json& points,
            const Background& background);

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Path> files_;  ///< by frame and points
};

}  // namespace limpid::web
