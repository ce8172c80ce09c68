// Several inputs in one call.
#include <limpid/error.h>

#include <filesystem>
#include <optional>
#include <set>
#include <system_error>

#include "failure.h"
#include "state.h"

namespace limpid::cli {
namespace {

namespace fs = std::filesystem;

bool names_a_folder(const fs::path& path) {
  std::error_code ignored;
  return !path.empty() && (!path.has_filename() || fs::is_directory(path, ignored));
}

std::vector<Job> plan(const std::vector<fs::path>& inputs, const fs::path& output,
                      const std::string& ending) {
  std::vector<Job> jobs;
  if (!names_a_folder(output)) {
    if (inputs.size() > 1 && !output.empty()) {
      throw Error(ErrorKind::usage,
                  output.string() + ": several inputs need a folder; write -o FOLDER/");
    }
    for (const fs::path& input : inputs) jobs.push_back({input, output});
    return jobs;
  }
  std::error_code error;
  fs::create_directories(output, error);
  if (error && !fs::is_directory(output)) {
    throw Error(ErrorKind::cannot_write, output.string() + ": " + error.message());
  }
  std::set<fs::path> taken;
  for (const fs::path& input : inputs) {
    fs::path name = input.filename();
    if (!ending.empty()) name.replace_extension(ending);
    if (!taken.insert(name).second) {
      throw Error(ErrorKind::usage, (output / name).string() +
                                        ": two inputs would be written "
                                        "there; run them apart");
    }
    jobs.push_back({input, output / name});
  }
  return jobs;
}

}  // namespace

void Common::require_silence(const fs::path& output) const {
  const bool progress_there = state_->progress == "plain" || state_->progress == "json";
  if (output != "-" || (!json() && !progress_there)) return;
  throw Error(ErrorKind::usage,
              "-: standard output gets the frame; leave out --json and --progress plain or json");
}

void Common::print(const Result& result, const fs::path& output) const {
  if (output != "-") return print(result);
  if (!result.text.empty() && result.text != "-") state_->say("status", result.text);
}

void Common::for_each(const std::vector<fs::path>& inputs, const fs::path& output,
                      const std::string& ending, const Body& body) const {
  require_silence(output);
  const std::vector<Job> jobs = plan(inputs, output, ending);
  if (jobs.size() == 1) {
    print(body(jobs.front(), progress()), output);
    return;
  }
  auto files = nlohmann::ordered_json::array();
  std::optional<ErrorKind> first_failure;
  int failures = 0;
  const auto count = static_cast<double>(jobs.size());
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const auto done = static_cast<double>(i);
    nlohmann::ordered_json entry = {{"input", jobs[i].input.string()}};
    try {
      Result result = body(jobs[i], progress().part(done / count, (done + 1) / count));
      entry.update(result.json);
      if (!json()) print({entry, std::move(result.text)});
    } catch (const std::exception&) {
      const Error failure = as_error(std::current_exception());
      if (failure.kind() == ErrorKind::interrupted) throw;
      error(failure.what(), failure.exit_code());
      entry["error"] = failure.what();
      entry["code"] = failure.exit_code();
      if (!first_failure) first_failure = failure.kind();
      ++failures;
    }
    files.push_back(std::move(entry));
  }
  if (json()) print({{{"files", std::move(files)}}, ""});
  if (first_failure) {
    throw Error(*first_failure,
                std::to_string(failures) + " of " + std::to_string(jobs.size()) + " inputs failed");
  }
}

}  // namespace limpid::cli
