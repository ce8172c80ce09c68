#include "web/assets.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include <limpid/error.h>

namespace limpid::web {
namespace {

namespace fs = std::filesystem;

fs::path page_folder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& folder : {program / "page", program / ".." / "share" / "limpid" / "page",
                                 fs::path(LIMPID_PAGE_FOLDER)}) {
    if (fs::is_regular_file(folder / "index.html", error)) return folder;
  }
  throw Error(ErrorKind::failed,
              "the page is not installed; build limpid where npm is found, see docs/page.md");
}

}  // namespace

std::map<std::string, Asset> load_page() {
  const std::map<std::string, std::string> types{{".html", "text/html; charset=utf-8"},
                                                 {".js", "text/javascript; charset=utf-8"},
                                                 {".css", "text/css; charset=utf-8"},
                                                 {".svg", "image/svg+xml"},
                                                 {".txt", "text/plain; charset=utf-8"}};
  std::map<std::string, Asset> assets;
  const fs::path folder = page_folder();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto type = types.find(entry.path().extension().string());
    if (!entry.is_regular_file() || type == types.end()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::string content(std::istreambuf_iterator<char>(file), {});
    assets["/" + fs::relative(entry.path(), folder).generic_string()] = {std::move(content),
                                                                         type->second};
  }
  assets["/"] = assets.at("/index.html");
  return assets;
}

}  // namespace limpid::web
