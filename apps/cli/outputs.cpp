#include "outputs.h"

#include <limpid/error.h>

#include <set>
#include <system_error>

namespace limpid::cli {

namespace fs = std::filesystem;

void check_outputs(const std::vector<fs::path>& paths, bool overwrite) {
  std::set<fs::path> taken;
  for (const fs::path& path : paths) {
    if (path.empty() || path == "-") continue;
    const auto refuse = [&path](ErrorKind kind, const std::string& why) {
      throw Error(kind, path.string() + ": " + why);
    };
    std::error_code error;
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    if (!fs::is_directory(folder, error))
      refuse(ErrorKind::cannot_write, "there is no folder " + folder.string());
    if (fs::is_directory(path, error)) refuse(ErrorKind::cannot_write, "is a folder");
    if (!overwrite && fs::exists(path, error))
      refuse(ErrorKind::cannot_write, "exists; use --overwrite to replace it");
    if (!taken.insert(fs::weakly_canonical(path, error)).second)
      refuse(ErrorKind::usage, "two outputs would be written there; give each a name of its own");
  }
}

}  // namespace limpid::cli
