// A weights file, and what it says of its network.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <limpid/network.h>

#include "nn/parameters.h"

namespace limpid {

/// Throws Error(bad_model) for a file that is no network's.
NetworkInfo model_info(const std::filesystem::path& path,
                       const std::map<std::string, std::string>& metadata);
struct NetworkFile {
  std::filesystem::path path;  ///< for messages: all has been read
  NetworkInfo info;
  Parameters parameters;
};
/// With the plane that older weights lack. Throws Error(bad_model).
NetworkFile read_network(const std::filesystem::path& path);

/// Channels and blocks, as the file says.
ArchitectureOptions shape_of(const NetworkInfo& info);

/// 64-bit FNV-1a (Fowler, Noll, Vo) in hexadecimal, enough to tell two texts apart.
std::string hash_text(const std::string& text);

}  // namespace limpid
