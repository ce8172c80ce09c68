#include "web/command_line.h"

#include <algorithm>

#include <limpid/error.h>
#include <limpid/network.h>

namespace limpid::web {
namespace {

using nlohmann::ordered_json;

/// What the page itself decides: where the frame comes from and goes to, and how it is told.
constexpr std::string_view not_options[] = {"--threads",  "--quiet",  "--verbose",  "--json",
                                            "--progress", "input",    "--output",   "--overwrite",
                                            "--region",   "--report", "--trust-map"};

[[noreturn]] void refuse(const std::string& key, const char* why) {
  throw Error(ErrorKind::usage, key.substr(0, 60) + ": " + why);
}

std::string value_word(const std::string& key, const std::string& type, const ordered_json& value,
                       const Folder& folder) {
  if (key == "mask") {
    if (!value.is_string()) refuse(key, "takes the name of a file");
    return folder.file(value.get<std::string>()).string();
  }
  if (key == "ai") {
    const auto models = installed_models();
    if (!value.is_string() || std::ranges::none_of(models, [&](const InstalledModel& m) {
          return m.info.name == value.get<std::string>();
        }))
      refuse(key, "no such model is installed");
    return value.get<std::string>();
  }
  if (value.is_number() && (type != "integer" || value.is_number_integer())) return value.dump();
  if (type != "string" || !value.is_string())
    refuse(key, ("takes a value of type " + type).c_str());
  return value.get<std::string>();
}

}  // namespace

const ordered_json& deconvolve_schema() {
  static const ordered_json schema = [] {
    CLI::App app;
    const cli::Common common("", {});
    cli::DeconvolveArguments arguments;
    cli::deconvolve_command(app, common, arguments);
    try {
      app.parse(std::vector<std::string>{"--schema", "deconvolve"});  // last word first
    } catch (const cli::CallForSchema& call) {
      return ordered_json::parse(call.what());
    }
    return ordered_json();
  }();
  return schema;
}

std::vector<std::string> option_words(const ordered_json& options, const Folder& folder) {
  if (!options.is_object()) throw Error(ErrorKind::usage, "options: an object is wanted");
  std::vector<std::string> words;
  std::size_t known = 0;
  for (const ordered_json& parameter : deconvolve_schema()["parameters"]) {
    const auto name = parameter["name"].get<std::string>();
    if (std::ranges::find(not_options, name) != std::end(not_options)) continue;
    const std::string key = name.substr(2);
    if (!options.contains(key)) continue;
    ++known;
    const ordered_json& value = options[key];
    if (value == parameter["default"] || value.is_null()) continue;
    const auto type = parameter["type"].get<std::string>();
    if (type == "boolean") {
      if (!value.is_boolean()) refuse(key, "takes true or false");
      if (value.get<bool>()) words.push_back(name);
      continue;
    }
    words.push_back(name);
    words.push_back(value_word(key, type, value, folder));
  }
  if (known != options.size()) {
    for (const auto& [key, unused] : options.items()) {
      const auto is = [&](const ordered_json& p) { return p["name"] == "--" + key; };
      const auto& all = deconvolve_schema()["parameters"];
      if (std::ranges::none_of(all, is) ||
          std::ranges::find(not_options, "--" + key) != std::end(not_options))
        refuse(key, "no such option here");
    }
  }
  return words;
}

cli::DeconvolveArguments parse_deconvolve(const std::vector<std::string>& words) {
  CLI::App app;
  const cli::Common common("", {});
  cli::DeconvolveArguments arguments;
  cli::deconvolve_command(app, common, arguments);
  std::vector<std::string> last_first(words.rbegin(), words.rend());
  try {
    app.parse(last_first);
  } catch (const CLI::Error& error) {
    throw Error(ErrorKind::usage, error.what());
  }
  return arguments;
}

}  // namespace limpid::web
