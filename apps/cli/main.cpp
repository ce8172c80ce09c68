// The program: which commands there are, how it is stopped, and what its exit status means.
#include <semaphore.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "command.h"
#include "failure.h"

namespace limpid::cli {
namespace {

using AddCommand = void (*)(CLI::App&, const Common&);
constexpr AddCommand commands[] = {
#include "commands.inc"  // made from the list in CMakeLists.txt
};

sem_t signal_arrived;
extern "C" void tell_of_signal(int) {
  sem_post(&signal_arrived);
}  // one of the few calls allowed here

/// Turns SIGINT and SIGTERM into a request to stop; a second one ends the program at once. A
/// handler, not sigwait: libraries start threads before main, and a signal that these do not block
/// would end the program from there.
class SignalWatch {
 public:
  SignalWatch() {
    sem_init(&signal_arrived, 0, 0);
    struct sigaction action {};
    action.sa_handler = tell_of_signal;
    action.sa_flags = SA_RESTART;
    for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
    thread_ = std::jthread([this](const std::stop_token& over) { watch(over); });
  }
  ~SignalWatch() {
    thread_.request_stop();
    sem_post(&signal_arrived);
  }
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  [[nodiscard]] std::stop_token token() const { return source_.get_token(); }

 private:
  void watch(const std::stop_token& over) {
    for (;;) {
      const bool told = sem_wait(&signal_arrived) == 0;
      if (over.stop_requested()) return;
      if (told && !source_.request_stop()) std::_Exit(static_cast<int>(ErrorKind::interrupted));
    }
  }

  std::stop_source source_;
  std::jthread thread_;
};

/// Parsing runs the command's callback as its last step.
int parse_and_run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CallForSchema& schema) {
    std::cout << schema.what() << '\n';
  } catch (const CLI::CallForVersion& version) {
    std::cout << version.what() << '\n';
  } catch (const CLI::Success&) {  // one of the calls for help
    std::cout << app.help();
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    throw Error(ErrorKind::usage, std::string(error.what()) + "; see limpid " +
                                      (chosen.empty() ? "" : chosen.front()->get_name() + " ") +
                                      "--help");
  }
  return 0;
}

int run(int argc, char** argv) {
  const SignalWatch signals;
  std::vector<std::string> words(argv, argv + argc);
  words.at(0) = "limpid";
  const Common common(shell_words(words), signals.token());
  CLI::App app("Restores astronomical images.", "limpid");
  app.set_version_flag("--version", "limpid " LIMPID_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  for (const AddCommand add : commands) add(app, common);

  int status = 0;
  try {
    status = parse_and_run(app, argc, argv);
  } catch (const std::exception&) {
    const Error error = as_error(std::current_exception());
    common.error(error.what(), error.exit_code());
    status = error.exit_code();
  }
  common.finish(status);
  return status;
}

}  // namespace
}  // namespace limpid::cli

int main(int argc, char** argv) {
#ifdef __GLIBC__
  // Every tile takes and gives back the same few large blocks; keep them instead of asking the
  // system for zeroed pages each time (a tenth of the run).
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  // And threads of tiles, whose heaps have 64 MB at most, would give back each that is empty.
  mallopt(M_TOP_PAD, 64 << 20);
#endif
  int status = 0;
  try {
    status = limpid::cli::run(argc, argv);
  } catch (
      const std::exception& error) {  // before there were options, or while telling of an error
    std::fprintf(stderr, "limpid: %s\n", error.what());
    status = static_cast<int>(limpid::ErrorKind::failed);
  }
  // All is done and said: LibTorch would take its tables apart one by one, a tenth of a second.
  std::cout.flush();
  std::fflush(nullptr);
  std::_Exit(status);
}
