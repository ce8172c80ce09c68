// Several processes that work on one task together.
#pragma once

#include <functional>
#include <span>

namespace limpid {

/// How several processes work on one thing. Default: alone.
struct Hosts {
  int rank = 0, count = 1;
  /// Replaces the values by their sum over all hosts, the same bytes on each; all must call it,
  /// with as many values, from one thread at a time.
  std::function<void(std::span<float>)> sum = {};
};

/// Those that `mpirun` has started together; alone when there was no mpirun. MPI is left when the
/// last copy goes. Throws Error(usage) under mpirun when this build has no MPI.
Hosts mpi_hosts();

}  // namespace limpid
