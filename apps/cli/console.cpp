// What the user sees while a command runs: progress, notes, errors, results.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "state.h"

namespace limpid::cli {
namespace {

/// File names need not be UTF-8; JSON must be.
std::string dump(const nlohmann::ordered_json& object, int indent) {
  return object.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void write_out(std::string_view text) {
  std::cout << text << (text.ends_with('\n') ? "" : "\n") << std::flush;
  if (!std::cout) throw Error(ErrorKind::cannot_write, "standard output cannot be written");
}

/// Which of the processes of mpirun, mpiexec or srun this is.
int announced_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return 0;
}

/// 80, or fewer where the terminal is narrower.
int terminal_columns() {
  constexpr int usual = 80, least = 20;
  winsize window{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) return usual;
  return std::clamp<int>(window.ws_col, least, usual);
}

bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }
int columns_of(const std::string& text) {
  return static_cast<int>(std::ranges::count_if(text, begins_character));
}
/// At most so many characters of UTF-8; the end is dotted where there are more.
std::string first_columns(const std::string& text, int most) {
  if (columns_of(text) <= most) return text;
  std::size_t end = 0;
  for (int seen = 0; end < text.size(); ++end) {
    if (begins_character(text[end]) && ++seen > most - 3) break;
  }
  return text.substr(0, end) + "...";
}

std::string clock(double seconds) {
  const auto whole = static_cast<long>(std::ceil(seconds));
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
  }
  return text;
}

}  // namespace

// ---- the display -------------------------------------------------------------------------------

void Common::State::event(const nlohmann::ordered_json& object) const {
  if (mute) return;
  // with --json standard output belongs to the one object
  if (json) {
    std::cerr << dump(object, -1) << '\n';
  } else {
    write_out(dump(object, -1));
  }
}

void Common::State::clear_bar() {
  if (!bar_visible) return;
  std::cerr << "\r\033[K" << std::flush;
  bar_visible = false;
}

std::optional<double> Common::State::seconds_left(double fraction) const {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  // too early to tell: loading a file says nothing about the work to come
  if (fraction < 0.02 || elapsed < 1) return std::nullopt;
  return elapsed * (1 - fraction) / fraction;
}

std::string Common::State::time_left(double fraction) const {
  const auto seconds = seconds_left(fraction);
  return seconds ? ", " + clock(*seconds) + " left" : "";
}

void Common::State::show_bar(double fraction) {
  // The words first, the bar in what they leave: a line that wraps could not be written over.
  const int columns = terminal_columns() - 1;
  char percent[16];
  std::snprintf(percent, sizeof percent, "%3d %%  ", static_cast<int>(fraction * 100));
  const std::string left = time_left(fraction);
  const auto room = columns - static_cast<int>(std::string_view(percent).size() + left.size());
  const std::string words = first_columns(stage, room) + left;
  const int width = std::min(30, room - columns_of(stage) - 3);
  std::string bar;
  if (width >= 8) {
    const auto filled = static_cast<std::size_t>(std::lround(fraction * width));
    bar = "[" + std::string(filled, '=') +
          std::string(static_cast<std::size_t>(width) - filled, ' ') + "] ";
  }
  std::cerr << "\r\033[K" << bar << percent << words << std::flush;
  bar_visible = true;
}

void Common::State::report(double fraction, std::string_view new_stage) {
  if (mute || (quiet && progress == "auto")) return;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const bool stage_is_new = stage != new_stage;
  stage = new_stage;
  const int percent = static_cast<int>(fraction * 100);
  const bool percent_is_new = percent != shown_percent;
  const auto now = Clock::now();
  const auto since_shown = now - shown_at;
  const bool on_terminal = isatty(STDERR_FILENO) == 1;
  using namespace std::chrono_literals;

  if (progress == "json") {
    if (stage_is_new) event({{"event", "status"}, {"text", stage}});
    if (percent_is_new) {
      nlohmann::ordered_json object = {{"event", "progress"}, {"fraction", fraction}};
      if (const auto seconds = seconds_left(fraction)) object["seconds_left"] = *seconds;
      event(object);
    }
  } else if (progress == "plain") {
    if (percent_is_new) {
      const std::string line = "progress: " + std::to_string(percent) + "%";
      if (json) {
        std::cerr << line << '\n';
      } else {
        write_out(line);
      }
    }
  } else if (progress == "bar" || on_terminal) {
    if (!stage_is_new && since_shown < 100ms) return;
    show_bar(fraction);
  } else {
    // a log file: few lines, at most one in ten seconds
    if (!percent_is_new || since_shown < 10s) return;
    std::cerr << stage << ": " << percent << " %" << time_left(fraction) << '\n';
  }
  shown_percent = percent;
  shown_at = now;
}

void Common::State::say(std::string_view kind, std::string_view text) {
  if (mute || quiet) return;
  clear_bar();
  if (events()) {
    event({{"event", kind}, {"text", text}});
  } else {
    std::cerr << "limpid: " << text << '\n';
  }
}

// ---- what commands use -------------------------------------------------------------------------

Common::Common(std::string command_line, std::stop_token stop) : state_(std::make_shared<State>()) {
  state_->command_line = std::move(command_line);
  state_->stop = std::move(stop);
  state_->mute = announced_rank() > 0;
}

bool Common::json() const { return state_->json; }
bool Common::quiet() const { return state_->quiet; }
bool Common::verbose() const { return state_->verbose; }
int Common::threads() const { return state_->threads; }
const std::string& Common::command_line() const { return state_->command_line; }

std::string history_line(const std::string& command_line, const std::string& model) {
  return "limpid " LIMPID_VERSION ": " + command_line +
         (model.empty() ? "" : " (model " + model + ")");
}
std::string Common::history(const std::string& model) const {
  return history_line(state_->command_line, model);
}

Progress Common::progress() const {
  Progress progress;
  progress.report = [state = state_](double fraction, std::string_view stage) {
    state->report(fraction, stage);
  };
  progress.note = [state = state_](std::string_view text) { state->say("warning", text); };
  progress.stop = state_->stop;
  return progress;
}

void Common::note(std::string_view text) const { state_->say("warning", text); }

void Common::detail(std::string_view text) const {
  if (state_->verbose) state_->say("status", text);
}

void Common::error(std::string_view text, int exit_code) const {
  if (state_->mute) return;
  state_->clear_bar();
  std::cerr << "limpid: " << text << '\n';
  if (state_->events()) {
    state_->event({{"event", "error"}, {"text", text}, {"code", exit_code}});
  }
}

void Common::print(const Result& result) const {
  if (state_->mute) return;
  state_->clear_bar();
  if (state_->json) {
    write_out(dump(result.json, 2));
  } else if (state_->events()) {
    state_->event({{"event", "result"}, {"result", result.json}});
  } else if (!result.text.empty()) {
    write_out(result.text);
  }
}

void Common::finish(int exit_code) const {
  state_->clear_bar();
  if (state_->events()) state_->event({{"event", "done"}, {"code", exit_code}});
}

}  // namespace limpid::cli
