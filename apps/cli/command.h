// What every command of limpid is made of: options that describe themselves, shared settings,
// batches. A command is one file with one function, which parses, calls and prints:
//
//   void add_blur(CLI::App& app, const Common& common) {
//     struct Options { std::vector<std::filesystem::path> inputs; std::filesystem::path output;
//                      bool overwrite = false; float fwhm_px = 2; std::string window = "cosine"; };
//     auto options = std::make_shared<Options>();      // lives as long as the callback below
//     Command command(app, common, "blur", "Makes a frame softer.",
//                     "limpid blur m31.fits -o soft.fits --fwhm 3");
//     command.inputs(options->inputs, "frames: FITS, XISF, TIFF or PNG")
//         .output(options->output, options->overwrite, "file, or FOLDER/ for several inputs")
//         .option("--fwhm", options->fwhm_px, {0.5, 8}, "width of the kernel in pixels")
//         .choice("--window", options->window, {"cosine", "box"}, "shape of the window");
//     command.run([options, common] {
//       const auto& [inputs, output, overwrite, fwhm_px, window] = *options;
//       common.for_each(inputs, output, "", [&](const Job& job, const Progress& progress) {
//         check_writable(job.output, {.overwrite = overwrite});      // before any work is done
//         const Frame frame = read_frame(job.input);
//         auto [soft, report] = blur(frame, {.fwhm_px = fwhm_px, .window = window}, progress);
//         write_frame(job.output, soft, {.overwrite = overwrite, .history = common.history()});
//         return Result{{{"fwhm_px", shortest(report.fwhm_px)}}, "softer"};  // JSON, and words
//       });
//     });
//   }
//
// The defaults shown by --help and --schema are the values that the variables hold when they are
// registered. Errors are thrown as limpid::Error; only main catches.
#pragma once

#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <limpid/error.h>
#include <limpid/progress.h>

namespace limpid::cli {

/// What a command has to say: an object for --json, text (may be empty) for people.
struct Result {
  nlohmann::ordered_json json;
  std::string text;
};

/// The double that reads like the float, for JSON: 0.7, not 0.699999988.
double shortest(float value);

/// As a shell would take it: words with anything unusual in them are quoted.
std::string shell_words(const std::vector<std::string>& words);
/// One line for the history of a file: version, exact command and the model, if one was used.
std::string history_line(const std::string& command_line, const std::string& model = "");

/// One input of a batch and where its output goes (empty for commands without one).
struct Job {
  std::filesystem::path input, output;
};

/// What all commands share. A handle: copies refer to the same settings, which parsing fills in.
class Common {
 public:
  Common(std::string command_line, std::stop_token stop);

  [[nodiscard]] bool json() const;
  [[nodiscard]] bool quiet() const;
  [[nodiscard]] bool verbose() const;
  [[nodiscard]] int threads() const;  ///< 0: all cores
  /// The exact command, as a shell would take it.
  [[nodiscard]] const std::string& command_line() const;
  /// The history_line() of this command.
  [[nodiscard]] std::string history(const std::string& model = "") const;

  /// Shows a bar, lines or events as --progress asks, and stops on Ctrl-C.
  [[nodiscard]] Progress progress() const;
  /// A sentence that the user should read. On standard error.
  void note(std::string_view text) const;
  /// The same for --verbose alone.
  void detail(std::string_view text) const;
  /// One line `limpid: <text>` on standard error.
  void error(std::string_view text, int exit_code) const;
  /// On standard output: the object with --json, else the text.
  void print(const Result& result) const;
  /// The same of a command whose frame goes to `output`: where that is "-", standard output has the
  /// frame alone, and the text goes to standard error.
  void print(const Result& result, const std::filesystem::path& output) const;
  /// Throws Error(usage) where `output` is "-" and standard output was to get words, too.
  void require_silence(const std::filesystem::path& output) const;
  /// Clears the bar, and tells a script that listens that this is the end.
  void finish(int exit_code) const;

  using Body = std::function<Result(const Job& job, const Progress& progress)>;
  /// Does the work for each input and prints each result (with --json and several inputs: one
  /// object whose `files` lists them). `output` is a file, or for several inputs a folder; the
  /// outputs there keep the name of their input, with `ending` (".fits") unless that is empty. An
  /// input that fails is reported and the rest go on; the first failure decides the exit code.
  void for_each(const std::vector<std::filesystem::path>& inputs,
                const std::filesystem::path& output, const std::string& ending,
                const Body& body) const;

 private:
  friend class Command;
  struct State;
  std::shared_ptr<State> state_;
};

/// Closed interval of the values that an option takes.
struct Range {
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
};

/// A subcommand whose options are registered once, for parsing, --help and --schema alike. Names
/// are given as "-o,--output". The targets must outlive parsing; a std::optional target is empty
/// until the option is given.
class Command {
 public:
  Command(CLI::App& app, const Common& common, const std::string& name, const std::string& summary,
          const std::string& example);

  /// Numbers (int, float, std::uint64_t, ...), std::string, std::filesystem::path, and
  /// std::optional or std::vector of these. A vector takes its values separated by commas.
  template <typename T>
  Command& option(const std::string& names, T& target, const std::string& text) {
    return option(names, target, Range{}, text);
  }
  template <typename T>
  Command& option(const std::string& names, T& target, Range range, const std::string& text) {
    add(names, {kind<T>(), default_of(target), range, {}, false, is_vector<T>, text},
        [&target](const std::vector<std::string>& words) { return assign(target, words); });
    return *this;
  }
  /// One of the words in `choices`.
  Command& choice(const std::string& names, std::string& target, std::vector<std::string> choices,
                  const std::string& text);
  Command& flag(const std::string& names, bool& target, const std::string& text);
  /// At least one path, without an option name.
  Command& inputs(std::vector<std::filesystem::path>& target, const std::string& text);
  /// One path without an option name, called `name` in the help; required.
  Command& argument(const std::string& name, std::filesystem::path& target,
                    const std::string& text);
  /// The same, but it may be left out; then `target` stays.
  Command& optional_argument(const std::string& name, std::filesystem::path& target,
                             const std::string& text);
  /// -o, required, and --overwrite.
  Command& output(std::filesystem::path& target, bool& overwrite, const std::string& text);
  /// --device auto|cpu|cuda[:N]
  Command& device(std::string& target, const std::string& what = "where the network runs");
  /// What the command does once everything was parsed.
  void run(std::function<void()> body);

 private:
  struct Parameter {
    std::string type;
    nlohmann::ordered_json default_value;
    Range range;
    std::vector<std::string> choices;
    bool required = false, list = false;
    std::string text;
  };
  using Assign = std::function<bool(const std::vector<std::string>&)>;

  template <typename T>
  static constexpr bool is_vector = false;
  template <typename T>
  static constexpr bool is_optional = false;

  template <typename T>
  static std::string kind() {
    if constexpr (is_vector<T> || is_optional<T>) {
      return kind<typename T::value_type>();
    } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
      return "path";
    } else if constexpr (std::is_same_v<T, std::string>) {
      return "string";
    } else if constexpr (std::is_integral_v<T>) {
      return "integer";
    } else {
      static_assert(std::is_floating_point_v<T>);
      return "number";
    }
  }

  template <typename T>
  static nlohmann::ordered_json default_of(const T& value) {
    if constexpr (is_vector<T>) {
      auto list = nlohmann::ordered_json::array();
      for (const auto& item : value) list.push_back(default_of(item));
      return list.empty() ? nullptr : list;
    } else if constexpr (is_optional<T>) {
      return value ? default_of(*value) : nullptr;
    } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
      return default_of(value.string());
    } else if constexpr (std::is_same_v<T, std::string>) {
      return value.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(value);
    } else if constexpr (std::is_same_v<T, float>) {
      return shortest(value);
    } else {
      return value;
    }
  }

  template <typename T>
  static bool assign(T& target, const std::vector<std::string>& words) {
    if constexpr (is_vector<T>) {
      target.clear();
      for (const std::string& word : words) {
        if (!assign(target.emplace_back(), {word})) return false;
      }
      return true;
    } else if constexpr (is_optional<T>) {
      return assign(target.emplace(), words);
    } else if constexpr (std::is_arithmetic_v<T>) {
      return CLI::detail::lexical_cast(words.front(), target);
    } else {
      target = words.front();
      return true;
    }
  }

  CLI::Option* add(const std::string& names, const Parameter& parameter, const Assign& assign);
  void record(const CLI::Option* option, const Parameter& parameter);
  void add_shared_options(const Common& common);

  CLI::App* app_;
  std::shared_ptr<nlohmann::ordered_json> schema_;
};

template <typename T>
constexpr bool Command::is_vector<std::vector<T>> = true;
template <typename T>
constexpr bool Command::is_optional<std::optional<T>> = true;

/// What `--schema` throws so that nothing else is parsed or done; carries the text.
class CallForSchema : public CLI::Success {
 public:
  explicit CallForSchema(const std::string& schema)
      : CLI::Success("CallForSchema", schema, CLI::ExitCodes::Success) {}
};

void add_background(CLI::App& app, const Common& common);
void add_convert(CLI::App& app, const Common& common);
void add_corpus(CLI::App& app, const Common& common);
void add_deconvolve(CLI::App& app, const Common& common);
void add_evaluate(CLI::App& app, const Common& common);
void add_info(CLI::App& app, const Common& common);
void add_measure(CLI::App& app, const Common& common);
void add_mfdeconv(CLI::App& app, const Common& common);
void add_models(CLI::App& app, const Common& common);
void add_serve(CLI::App& app, const Common& common);
void add_simulate(CLI::App& app, const Common& common);
void add_train(CLI::App& app, const Common& common);

}  // namespace limpid::cli
