#include "web/points_files.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include <limpid/io.h>

#include "cli/background.h"

namespace limpid::web {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_files = 100;

std::string key_of(const fs::path& frame, const PointsFiles::Json& points) {
  return frame.string() + '\n' + points.dump();
}

bool holds_text(const fs::path& path, const std::string& text) {
  std::error_code error;
  if (fs::file_size(path, error) != text.size() || error) return false;
  std::ifstream file(path, std::ios::binary);
  return std::equal(text.begin(), text.end(), std::istreambuf_iterator<char>(file), {});
}

}  // namespace

std::string points_text(const Background& background) {
  return cli::points_json(background).dump(1) + "\n";
}

fs::path PointsFiles::of(const fs::path& frame, const Json& points) const {
  const std::scoped_lock lock(mutex_);
  const auto known = files_.find(key_of(frame, points));
  if (known != files_.end()) return known->second;
  return frame.parent_path() / (frame.stem().string() + "-points.json");
}

bool PointsFiles::has(const fs::path& frame, const Json& points) const {
  const std::scoped_lock lock(mutex_);
  const auto known = files_.find(key_of(frame, points));
  std::error_code error;
  return known != files_.end() && fs::exists(known->second, error);
}

void PointsFiles::remember(const fs::path& frame, const Json& points, const fs::path& file) {
  const std::scoped_lock lock(mutex_);
  if (files_.size() >= most_files) files_.clear();
  files_[key_of(frame, points)] = file;
}

void PointsFiles::keep(const Folder& folder, const fs::path& frame, const Json& points,
                       const Background& background) {
  const std::string text = points_text(background);
  fs::path path = of(frame, points);
  if (!holds_text(path, text)) {
    path = folder.target(folder.free_name(folder.name_of(path)));
    write_file_atomically(path, text.data(), text.size(), false);
  }
  remember(frame, points, path);
}

}  // namespace limpid::web
