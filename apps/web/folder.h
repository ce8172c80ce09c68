// The folder that the page may see, and nothing outside it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace limpid::web {

/// Names come from the page: UTF-8, relative to the folder, parts separated by "/". Whatever they
/// hold ("..", links, control characters), no path leaves the folder; hidden files are not there.
class Folder {
 public:
  /// Throws Error(bad_input) when it is no folder.
  explicit Folder(const std::filesystem::path& root);

  [[nodiscard]] const std::filesystem::path& root() const { return root_; }
  /// A file that exists. Throws Error(usage) for a name that is none, Error(bad_input) when there
  /// is no such file.
  [[nodiscard]] std::filesystem::path file(std::string_view name) const;
  /// A folder that exists, in the same way.
  [[nodiscard]] std::filesystem::path directory(std::string_view name) const;
  /// What the page calls a path inside the folder.
  [[nodiscard]] std::string name_of(const std::filesystem::path& path) const;
  /// Where a file may be written; the folder that it goes to exists.
  [[nodiscard]] std::filesystem::path target(std::string_view name) const;
  /// A name that is not taken yet: "m31.fits", "m31-2.fits", ...
  [[nodiscard]] std::string free_name(std::string_view name) const;
  /// {"folder", "folders": [name], "files": [{"name", "bytes", "changed"}]}, by name.
  [[nodiscard]] nlohmann::ordered_json list(std::string_view name) const;

 private:
  [[nodiscard]] std::filesystem::path inside(const std::filesystem::path& path,
                                             std::string_view name) const;
  std::filesystem::path root_;
};

/// True for text that is UTF-8 throughout.
bool is_utf8(std::string_view text);
/// Endings of what limpid reads, such as ".fits".
bool names_an_image(const std::filesystem::path& path);

}  // namespace limpid::web
