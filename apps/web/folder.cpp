#include "web/folder.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <system_error>

#include <limpid/error.h>

namespace limpid::web {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::size_t longest_name = 1024, most_entries = 5000;

/// The parts of a name, none of which leads upwards, is hidden or is empty.
fs::path checked(std::string_view name) {
  const bool odd = std::ranges::any_of(
      name, [](char c) { return static_cast<unsigned char>(c) < 32 || c == '\\' || c == 127; });
  if (name.size() > longest_name || odd || !is_utf8(name) || name.starts_with('/'))
    throw Error(ErrorKind::usage, "that is no name of a file in the folder");
  fs::path path;
  while (!name.empty()) {
    const std::size_t end = std::min(name.find('/'), name.size());
    const std::string_view part = name.substr(0, end);
    if (part.empty() || part.starts_with('.'))
      throw Error(ErrorKind::usage, "names may not hold hidden or empty parts, or '..'");
    path /= fs::path(std::u8string(part.begin(), part.end()));
    name.remove_prefix(std::min(end + 1, name.size()));
  }
  return path;
}

std::string utf8(const fs::path& path) {
  const std::u8string text = path.u8string();
  return {text.begin(), text.end()};
}

}  // namespace

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xC2 && lead < 0xE0 ? 2
                               : lead >= 0xE0 && lead < 0xF0 ? 3
                               : lead >= 0xF0 && lead < 0xF5 ? 4
                                                             : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (std::size_t j = 1; j < length; ++j) {
      if ((static_cast<unsigned char>(text[i + j]) & 0xC0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

bool names_an_image(const fs::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::string_view endings[] = {".fits", ".fit",  ".fts", ".fz",  ".xisf",
                                          ".tif",  ".tiff", ".png", ".jpg", ".jpeg"};
  if (ending == ".gz") return names_an_image(path.stem());
  return std::ranges::find(endings, ending) != std::end(endings);
}

Folder::Folder(const fs::path& root) {
  std::error_code error;
  root_ = fs::canonical(root.empty() ? "." : root, error);
  if (error || !fs::is_directory(root_))
    throw Error(ErrorKind::bad_input, root.string() + ": no such folder");
}

fs::path Folder::inside(const fs::path& path, std::string_view name) const {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) throw Error(ErrorKind::bad_input, std::string(name) + ": no such file or folder");
  const auto [end, unused] = std::mismatch(root_.begin(), root_.end(), real.begin(), real.end());
  if (end != root_.end())
    throw Error(ErrorKind::usage, std::string(name) + ": lies outside the folder");
  return real;
}

fs::path Folder::file(std::string_view name) const {
  const fs::path path = inside(root_ / checked(name), name);
  std::error_code error;
  if (!fs::is_regular_file(path, error))
    throw Error(ErrorKind::bad_input, std::string(name) + ": not a file");
  return path;
}

fs::path Folder::directory(std::string_view name) const {
  const fs::path path = inside(root_ / checked(name), name);
  std::error_code error;
  if (!fs::is_directory(path, error))
    throw Error(ErrorKind::bad_input, std::string(name) + ": not a folder");
  return path;
}

std::string Folder::name_of(const fs::path& path) const {
  return utf8(path.lexically_relative(root_));
}

fs::path Folder::target(std::string_view name) const {
  const fs::path relative = checked(name);
  if (relative.empty()) throw Error(ErrorKind::usage, "a file needs a name");
  const fs::path folder = inside(root_ / relative.parent_path(), name);
  fs::path path = folder / relative.filename();
  std::error_code error;
  const auto status = fs::symlink_status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error(ErrorKind::cannot_write, std::string(name) + ": exists and is no ordinary file");
  return path;
}

std::string Folder::free_name(std::string_view name) const {
  const fs::path wanted = checked(name);
  fs::path path = wanted;
  std::error_code error;
  for (int i = 2; fs::exists(fs::symlink_status(root_ / path, error)); ++i) {
    path =
        wanted.parent_path() /
        fs::path(wanted.stem()).concat("-" + std::to_string(i)).concat(wanted.extension().native());
  }
  return utf8(path);
}

ordered_json Folder::list(std::string_view name) const {
  const fs::path folder = inside(root_ / checked(name), name);
  std::vector<std::string> folders;
  std::vector<ordered_json> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, fs::directory_options::skip_permission_denied, error),
       end;
       !error && entry != end && folders.size() + files.size() < most_entries;
       entry.increment(error)) {
    std::string own = utf8(entry->path().filename());
    if (own.starts_with('.') || !is_utf8(own)) continue;
    try {
      const fs::path real = inside(entry->path(), own);
      std::error_code ignored;
      if (fs::is_directory(real, ignored)) {
        folders.push_back(std::move(own));
      } else if (fs::is_regular_file(real, ignored) && names_an_image(own)) {
        const auto changed = fs::last_write_time(real, ignored);
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
            std::chrono::file_clock::to_sys(changed).time_since_epoch());
        files.push_back({{"name", std::move(own)},
                         {"bytes", fs::file_size(real, ignored)},
                         {"changed", seconds.count()}});
      }
    } catch (const Error&) {
      continue;  // a link that leads nowhere, or outside
    }
  }
  if (error) throw Error(ErrorKind::bad_input, std::string(name) + ": " + error.message());
  std::ranges::sort(folders);
  std::ranges::sort(files, {}, [](const ordered_json& f) { return f["name"].get<std::string>(); });
  return {{"folder", name}, {"folders", folders}, {"files", files}};
}

}  // namespace limpid::web
