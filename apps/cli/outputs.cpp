#include "outputs.h"

#include <unistd.h>

#include <limpid/error.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <system_error>

namespace limpid::cli {

namespace fs = std::filesystem;

namespace {

void require_writable(const fs::path& folder) {
  if (::access(folder.c_str(), W_OK | X_OK) == 0) return;
  throw Error(ErrorKind::cannot_write,
              folder.string() + ": cannot be written to: " + std::strerror(errno));
}

}  // namespace

void check_outputs(const std::vector<fs::path>& paths, bool overwrite,
                   const std::vector<fs::path>& inputs) {
  std::error_code error;
  std::set<fs::path> taken, read;
  for (const fs::path& input : inputs) {
    if (!input.empty() && input != "-") read.insert(fs::weakly_canonical(input, error));
  }
  for (const fs::path& path : paths) {
    if (path.empty() || path == "-") continue;
    const auto refuse = [&path](ErrorKind kind, const std::string& why) {
      throw Error(kind, path.string() + ": " + why);
    };
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    if (!fs::is_directory(folder, error))
      refuse(ErrorKind::cannot_write, "there is no folder " + folder.string());
    if (fs::is_directory(path, error)) refuse(ErrorKind::cannot_write, "is a folder");
    if (!overwrite && fs::exists(path, error))
      refuse(ErrorKind::cannot_write, "exists; use --overwrite to replace it");
    const fs::path place = fs::weakly_canonical(path, error);
    if (read.contains(place)) refuse(ErrorKind::usage, "is an input of this run and stays");
    if (!taken.insert(place).second)
      refuse(ErrorKind::usage, "two outputs would be written there; give each a name of its own");
    require_writable(folder);
  }
}

void make_writable_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(ErrorKind::cannot_write, folder.string() + ": " + error.message());
  require_writable(folder);
}

std::string dropped_in_words(const std::vector<std::string>& dropped) {
  std::string names;
  std::set<std::string> told;
  for (const std::string& name : dropped) {
    if (!told.insert(name).second) continue;
    names += names.empty() ? "" : ", ";
    names += name.starts_with("PCL:") ? "PixInsight's astrometric solution" : name;
  }
  return names.empty() ? "" : "left out of the header, since true of the frame's own pixels only: " + names;
}

}  // namespace limpid::cli
