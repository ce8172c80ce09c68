// How a command registers its options, and how --schema tells of them.
#include "command.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <regex>

#include "state.h"

namespace limpid::cli {
namespace {

std::string number(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

std::string in_words(Range range) {
  if (std::isinf(range.minimum) && std::isinf(range.maximum)) return "";
  if (std::isinf(range.maximum)) return number(range.minimum) + " or more";
  if (std::isinf(range.minimum)) return number(range.maximum) + " or less";
  return number(range.minimum) + ".." + number(range.maximum);
}

std::string joined(const std::vector<std::string>& words, const std::string& separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

std::string as_typed(const nlohmann::ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return number(value.get<double>());
  if (!value.is_array()) return value.dump();
  std::vector<std::string> words;
  for (const auto& item : value) words.push_back(as_typed(item));
  return joined(words, ",");
}

/// " [0..1, default 0.25]": what --help adds to the text of an option.
std::string limits(Range range, const nlohmann::ordered_json& default_value) {
  std::string text = in_words(range);
  if (!default_value.is_null()) {
    text += (text.empty() ? "default " : ", default ") + as_typed(default_value);
  }
  return text.empty() ? "" : " [" + text + "]";
}

/// A limit in the type of the option: 8, not 8.0, for a whole number.
nlohmann::ordered_json limit(double value, const std::string& type) {
  if (type == "integer") return static_cast<std::int64_t>(value);
  return value;
}

}  // namespace

std::string shell_words(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    const bool plain =
        !word.empty() && word.find_first_of(" \t\n'\"\\$`*?[](){}<>|&;#~!") == std::string::npos;
    std::string quoted;
    for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    line += (line.empty() ? "" : " ") + (plain ? word : "'" + quoted + "'");
  }
  return line;
}

double shortest(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double result = value;
  std::from_chars(text, end, result);
  return result;
}

Command::Command(CLI::App& app, const Common& common, const std::string& name,
                 const std::string& summary, const std::string& example)
    : app_(app.add_subcommand(name, summary)),
      schema_(std::make_shared<nlohmann::ordered_json>()) {
  app_->footer("Example:\n  " + example);
  (*schema_)["command"] = name;
  (*schema_)["text"] = summary;
  (*schema_)["example"] = example;
  (*schema_)["parameters"] = nlohmann::ordered_json::array();
  add_shared_options(common);
}

void Command::record(const CLI::Option* option, const Parameter& parameter) {
  nlohmann::ordered_json entry;
  auto names = nlohmann::ordered_json::array();
  for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  if (names.empty()) names.push_back(option->get_name());
  entry["name"] = names.front();
  if (names.size() > 1) entry["aliases"] = {names.begin() + 1, names.end()};
  entry["positional"] = option->get_positional();
  entry["type"] = parameter.type;
  entry["list"] = parameter.list;
  entry["required"] = parameter.required;
  const auto [minimum, maximum] = parameter.range;
  if (std::isfinite(minimum)) entry["minimum"] = limit(minimum, parameter.type);
  if (std::isfinite(maximum)) entry["maximum"] = limit(maximum, parameter.type);
  if (!parameter.choices.empty()) entry["choices"] = parameter.choices;
  entry["default"] = parameter.default_value;
  entry["text"] = parameter.text;
  (*schema_)["parameters"].push_back(std::move(entry));
}

CLI::Option* Command::add(const std::string& names, const Parameter& parameter,
                          const Assign& assign) {
  CLI::Option* option = app_->add_option(
      names, assign, parameter.text + limits(parameter.range, parameter.default_value));
  option->required(parameter.required);
  // not CLI11's own description of the type: that of the schema
  const bool commas = parameter.list && !option->get_positional();
  option->type_name(parameter.choices.empty() ? parameter.type + (commas ? ",..." : "")
                                              : joined(parameter.choices, "|"));
  if (parameter.list) {
    option->take_all();
    if (option->get_positional()) {
      option->expected(1, -1)->allow_extra_args();
    } else {
      option->delimiter(',');
    }
  }
  if (const bool whole = parameter.type == "integer"; whole || parameter.type == "number") {
    option->check([range = parameter.range, whole](const std::string& word) -> std::string {
      double value = 0;
      std::int64_t digits = 0;
      if (!CLI::detail::lexical_cast(word, value)) return word + " is no number";
      const std::string allowed = in_words(range);
      if (!allowed.empty() && !(value >= range.minimum && value <= range.maximum))
        return word + " is not in the range " + allowed;
      if (whole && !CLI::detail::lexical_cast(word, digits))
        return word + ": write a whole number, in digits";
      return "";
    });
  }
  if (!parameter.choices.empty()) {
    option->check([choices = parameter.choices](const std::string& word) -> std::string {
      const bool known = std::ranges::find(choices, word) != choices.end();
      return known ? "" : word + " is none of " + joined(choices, ", ");
    });
  }
  record(option, parameter);
  return option;
}

Command& Command::choice(const std::string& names, std::string& target,
                         std::vector<std::string> choices, const std::string& text) {
  add(names, {"string", target, {}, std::move(choices), false, false, text},
      [&target](const std::vector<std::string>& words) { return assign(target, words); });
  return *this;
}

Command& Command::flag(const std::string& names, bool& target, const std::string& text) {
  record(app_->add_flag(names, target, text), {"boolean", target, {}, {}, false, false, text});
  return *this;
}

Command& Command::inputs(std::vector<std::filesystem::path>& target, const std::string& text) {
  add("input", {"path", nullptr, {}, {}, true, true, text},
      [&target](const std::vector<std::string>& words) { return assign(target, words); });
  return *this;
}

Command& Command::argument(const std::string& name, std::filesystem::path& target,
                           const std::string& text) {
  add(name, {"path", nullptr, {}, {}, true, false, text},
      [&target](const std::vector<std::string>& words) { return assign(target, words); });
  return *this;
}

Command& Command::optional_argument(const std::string& name, std::filesystem::path& target,
                                    const std::string& text) {
  add(name, {"path", default_of(target), {}, {}, false, false, text},
      [&target](const std::vector<std::string>& words) { return assign(target, words); });
  return *this;
}

Command& Command::output(std::filesystem::path& target, bool& overwrite, const std::string& text) {
  add("-o,--output", {"path", nullptr, {}, {}, true, false, text},
      [&target](const std::vector<std::string>& words) { return assign(target, words); });
  return flag("--overwrite", overwrite, "replace the output if it is there already");
}

Command& Command::device(std::string& target, const std::string& what) {
  const std::string text = what + ": auto, cpu, cuda or cuda:N";
  add("--device", {"string", target, {}, {}, false, false, text},
      [&target](const std::vector<std::string>& words) { return assign(target, words); })
      ->check([](const std::string& word) -> std::string {
        static const std::regex known("auto|cpu|cuda(:[0-9]{1,3})?");
        return std::regex_match(word, known) ? "" : word + " is none of auto, cpu, cuda, cuda:N";
      });
  return *this;
}

void Command::run(std::function<void()> body) { app_->callback(std::move(body)); }

void Command::add_shared_options(const Common& common) {
  Common::State& state = *common.state_;
  option("--threads", state.threads, {0, 1024}, "processor cores to use, 0 for all");
  flag("-q,--quiet", state.quiet, "no progress and no notes");
  flag("-v,--verbose", state.verbose, "tell more of what is done");
  flag("--json", state.json, "print one JSON object and nothing else");
  choice("--progress", state.progress, {"auto", "bar", "plain", "json"},
         "bar on standard error, or lines or events for scripts on standard output");
  app_->add_flag_callback(
          "--schema", [schema = schema_] { throw CallForSchema(schema->dump(2)); },
          "print these options as JSON")
      ->trigger_on_parse();
}

}  // namespace limpid::cli
