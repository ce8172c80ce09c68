#include "web/command_line.h"

#include <algorithm>
#include <map>

#include <limpid/error.h>
#include <limpid/network.h>

namespace limpid::web {
namespace {

using nlohmann::ordered_json;

/// What the page itself decides: where frames come from and go to, and how it is told.
constexpr std::string_view not_options[] = {
    "--threads", "--quiet",     "--verbose", "--json",   "--progress",   "input",
    "--output",  "--overwrite", "--region",  "--report", "--trust-map",  "--model",
    "--points",  "--refine",    "--preview", "--resume", "--checkpoint", "--save-iterations"};

constexpr std::size_t fewest_points = 4, most_points = 400;  // of a spline

[[noreturn]] void refuse(const std::string& key, const char* why) {
  throw Error(ErrorKind::usage, key.substr(0, 60) + ": " + why);
}

template <typename Arguments>
using Make = cli::Command (*)(CLI::App&, const cli::Common&, Arguments&);

template <typename Arguments>
Arguments parsed(Make<Arguments> make, const std::vector<std::string>& words) {
  CLI::App app;
  const cli::Common common("", {});
  Arguments arguments;
  make(app, common, arguments);
  std::vector<std::string> last_first(words.rbegin(), words.rend());
  try {
    app.parse(last_first);
  } catch (const CLI::Error& error) {
    throw Error(ErrorKind::usage, error.what());
  }
  return arguments;
}

template <typename Arguments>
ordered_json schema(Make<Arguments> make, const char* command) {
  CLI::App app;
  const cli::Common common("", {});
  Arguments arguments;
  make(app, common, arguments);
  try {
    app.parse(std::vector<std::string>{"--schema", command});  // last word first
  } catch (const cli::CallForSchema& call) {
    return ordered_json::parse(call.what());
  }
  return {};
}

bool is_installed_model(const ordered_json& value) {
  return std::ranges::any_of(installed_models(), [&](const InstalledModel& model) {
    return model.info.name == value.get<std::string>();
  });
}

std::string value_word(const std::string& key, const std::string& type, const ordered_json& value,
                       const Folder& folder) {
  const bool seed_file =
      key == "seed" && type == "string" && value != "robust" && value != "median";
  if (type == "path" || seed_file) {
    if (!value.is_string()) refuse(key, "takes a name in the folder");
    const auto name = value.get<std::string>();
    const bool whole_folder = key == "rejection-masks" || key == "psf-dir";
    return (whole_folder ? folder.directory(name) : folder.file(name)).string();
  }
  if (key == "ai") {
    if (!value.is_string() || !is_installed_model(value)) refuse(key, "no such model is installed");
    return value.get<std::string>();
  }
  if (value.is_number() && (type != "integer" || value.is_number_integer())) return value.dump();
  if (type != "string" || !value.is_string())
    refuse(key, ("takes a value of type " + type).c_str());
  return value.get<std::string>();
}

}  // namespace

const ordered_json& schema_of(const std::string& command) {
  static const std::map<std::string, ordered_json> schemas{
      {"deconvolve", schema(cli::deconvolve_command, "deconvolve")},
      {"background", schema(cli::background_command, "background")},
      {"mfdeconv", schema(cli::mfdeconv_command, "mfdeconv")}};
  const auto found = schemas.find(command);
  if (found == schemas.end()) refuse(command, "no such command here");
  return found->second;
}

ordered_json without_points(ordered_json options) {
  options.erase("points");
  return options;
}

cli::SavedPoints points_by_hand(const ordered_json& options, Size frame) {
  const int order = options.contains("order") && options["order"] == 3 ? 3 : 2;
  try {
    cli::SavedPoints saved = cli::saved_points_of(options.at("points"), frame, order);
    if (saved.points.size() < fewest_points || saved.points.size() > most_points ||
        saved.removed.size() > most_points)
      refuse("points", "4 to 400 are wanted");
    return saved;
  } catch (const Error& error) {
    throw Error(ErrorKind::usage, error.what());
  }
}

std::vector<std::string> option_words(const std::string& command, const ordered_json& options,
                                      const Folder& folder) {
  if (!options.is_object()) throw Error(ErrorKind::usage, "options: an object is wanted");
  std::vector<std::string> words, known;
  for (const ordered_json& parameter : schema_of(command)["parameters"]) {
    const auto name = parameter["name"].get<std::string>();
    if (std::ranges::find(not_options, name) != std::end(not_options)) continue;
    const std::string key = name.substr(2);
    if (!options.contains(key)) continue;
    known.push_back(key);
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
  for (const auto& [key, unused] : options.items()) {
    if (std::ranges::find(known, key) == known.end()) refuse(key, "no such option here");
  }
  return words;
}

cli::DeconvolveArguments parse_deconvolve(const std::vector<std::string>& words) {
  return parsed(cli::deconvolve_command, words);
}

cli::BackgroundArguments parse_background(const std::vector<std::string>& words) {
  return parsed(cli::background_command, words);
}

cli::MultiframeArguments parse_multiframe(const std::vector<std::string>& words) {
  return parsed(cli::mfdeconv_command, words);
}

}  // namespace limpid::web
