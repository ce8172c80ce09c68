// Several processes of one command, started by mpirun: who they are, how they add up, how they end.
#pragma once

#include <functional>
#include <span>
#include <string>

#include <limpid/multiframe.h>

namespace limpid::cli {

/// The processes of mpirun, or this one alone. Exists once; every process makes the same calls in
/// the same order.
class Ranks {
 public:
  /// Throws Error(usage) when mpirun started several and this program was built without MPI.
  Ranks();
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  [[nodiscard]] bool first() const { return hosts_.rank == 0; }
  [[nodiscard]] const Hosts& hosts() const { return hosts_; }

  /// Does the work of all ranks. An error of any rank ends it in all of them, with that rank's
  /// error.
  void run(const std::function<void()>& body);

 private:
  void exchange(int code, const std::string& text) const;
  void sum(std::span<float> values) const;

  Hosts hosts_;
  bool started_ = false;
};

}  // namespace limpid::cli
