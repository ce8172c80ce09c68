// The one exception of limpid, and what it means for a program's exit status.
#pragma once

#include <stdexcept>
#include <string>

namespace limpid {

/// Why an operation could not be done. The numeric value is the exit status of the command line.
enum class ErrorKind : int {
  failed = 1,          ///< went wrong while running
  usage = 2,           ///< an option or argument makes no sense
  bad_input = 3,       ///< missing, unreadable, or not an image limpid can take
  cannot_write = 4,    ///< the output cannot be written
  exhausted = 5,       ///< memory or device exhausted or lost
  bad_model = 6,       ///< the weights are unusable
  interrupted = 130,   ///< stopped by the user
};

/// One line: which file or option, what is wrong, what would help.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& text) : std::runtime_error(text), kind_(kind) {}
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }
  [[nodiscard]] int exit_code() const noexcept { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

}  // namespace limpid
