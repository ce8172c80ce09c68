// The settings behind Common, and the display that belongs to them.
#pragma once

#include <chrono>
#include <optional>
#include <stop_token>
#include <string>

#include "command.h"

namespace limpid::cli {

struct Common::State {
  std::string command_line;
  std::stop_token stop;

  int threads = 0;
  bool quiet = false, verbose = false, json = false;
  std::string progress = "auto";
  bool mute = false;  ///< not the first of the processes that mpirun started

  using Clock = std::chrono::steady_clock;
  Clock::time_point start = Clock::now(), shown_at = start;
  int shown_percent = -1;
  std::string stage;
  bool bar_visible = false;

  void report(double fraction, std::string_view new_stage);
  void say(std::string_view kind, std::string_view text);
  void clear_bar();
  [[nodiscard]] bool events() const { return progress == "json"; }
  void event(const nlohmann::ordered_json& object) const;

 private:
  [[nodiscard]] std::optional<double> seconds_left(double fraction) const;
  [[nodiscard]] std::string time_left(double fraction) const;
  void show_bar(double fraction);
};

}  // namespace limpid::cli
