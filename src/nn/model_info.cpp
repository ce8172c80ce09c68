#include "nn/model_info.h"

#include <array>
#include <cstdio>
#include <sstream>
#include <vector>

#include <limpid/error.h>

#include "core/fnv.h"

namespace limpid {
namespace {

std::vector<int> split(const std::string& text) {
  std::vector<int> values;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    values.push_back(part.size() <= 6 &&
                             part.find_first_not_of("0123456789") == std::string::npos &&
                             !part.empty()
                         ? std::stoi(part)
                         : -1);
  }
  return values;
}

std::int64_t whole(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const auto entry = metadata.find(key);
  if (entry == metadata.end() || entry->second.empty() || entry->second.size() > 15 ||
      entry->second.find_first_not_of("0123456789") != std::string::npos)
    return 0;
  return std::stoll(entry->second);
}

std::string text(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const auto entry = metadata.find(key);
  return entry == metadata.end() ? "" : entry->second;
}

}  // namespace

NetworkInfo model_info(const std::filesystem::path& path,
                       const std::map<std::string, std::string>& metadata) {
  if (text(metadata, "format") != "limpid network 1") {
    throw Error(ErrorKind::bad_model,
                path.string() + ": not a limpid network; 'limpid models' lists those installed");
  }
  NetworkInfo info;
  info.name = text(metadata, "name");
  info.architecture = text(metadata, "architecture");
  info.steps = whole(metadata, "steps");
  info.patches = whole(metadata, "patches");
  info.config_hash = text(metadata, "config_hash");
  info.corpus_hash = text(metadata, "corpus_hash");
  info.validation_table = text(metadata, "validation_table");
  info.metadata = metadata;
  return info;
}

NetworkFile read_network(const std::filesystem::path& path) {
  const SafetensorsHeader header = read_safetensors_header(path);
  NetworkFile file{path, model_info(path, header.metadata), read_parameters(path, header)};
  add_missing_plane(file.parameters);
  for (const auto& [name, parameter] : file.parameters)
    file.info.parameters += static_cast<std::int64_t>(parameter.values.size());
  return file;
}

ArchitectureOptions shape_of(const NetworkInfo& info) {
  return {split(text(info.metadata, "widths")), split(text(info.metadata, "blocks"))};
}

std::string hash_text(const std::string& text) {
  Fnv hash;
  for (const char c : text) hash.add(static_cast<unsigned char>(c));
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx",
                static_cast<unsigned long long>(hash.value()));
  return digits.data();
}

}  // namespace limpid
