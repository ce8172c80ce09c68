// The files that the page is made of.
#pragma once

#include <map>
#include <string>

namespace limpid::web {

struct Asset {
  std::string content, type;
};

/// By the path that a browser asks for. Throws Error(failed) when the page is not installed.
std::map<std::string, Asset> load_page();

}  // namespace limpid::web
