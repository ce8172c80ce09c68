// How a long operation tells what it is doing, and how it is asked to stop.
#pragma once

#include <functional>
#include <stop_token>
#include <string_view>

#include <limpid/error.h>

namespace limpid {

/// Passed by value to every long operation. A default-constructed one is silent and never stops.
/// The callbacks may be called from the calling thread only.
struct Progress {
  /// `fraction` runs from 0 to 1 over the whole operation; `stage` is a short phrase.
  std::function<void(double fraction, std::string_view stage)> report;
  /// A sentence that the user should read (an assumption made, a fallback taken).
  std::function<void(std::string_view text)> note;
  std::stop_token stop;

  void operator()(double fraction, std::string_view stage) const {
    if (report) report(fraction, stage);
  }
  void say(std::string_view text) const {
    if (note) note(text);
  }
  /// Throws Error(interrupted) once a stop was requested. Call it between tiles, stars, files.
  void throw_if_stopped() const {
    if (stop.stop_requested()) throw Error(ErrorKind::interrupted, "interrupted");
  }
  /// The same progress, mapped into [from, to] of a larger operation.
  [[nodiscard]] Progress part(double from, double to) const {
    Progress inner = *this;
    if (report) {
      inner.report = [outer = report, from, to](double fraction, std::string_view stage) {
        outer(from + (to - from) * fraction, stage);
      };
    }
    return inner;
  }
};

}  // namespace limpid
