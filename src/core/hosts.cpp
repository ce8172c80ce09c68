// The only file that sees MPI.
#include <limpid/hosts.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>

#include <limpid/error.h>

#ifdef LIMPID_HAS_MPI
// the C interface alone
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#endif

namespace limpid {
namespace {

/// What Open MPI, MPICH and Slurm set in the processes that they start.
bool started_by_mpirun() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMI_SIZE") != nullptr;
}

#ifdef LIMPID_HAS_MPI
/// MPI from here to its end. After an error it is not left in order: the others may wait in a sum,
/// and mpirun ends them when one process goes without a farewell.
class Session {
 public:
  Session() {
    int level = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }
};
#endif

}  // namespace

Hosts mpi_hosts() {
  if (!started_by_mpirun()) return {};
#ifdef LIMPID_HAS_MPI
  const auto session = std::make_shared<Session>();
  Hosts hosts;
  MPI_Comm_rank(MPI_COMM_WORLD, &hosts.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &hosts.count);
  hosts.sum = [session](std::span<float> values) {
    constexpr std::size_t most = std::size_t{1} << 28U;  // MPI counts in int
    for (std::size_t at = 0; at < values.size(); at += most) {
      const auto part = values.subspan(at, std::min(most, values.size() - at));
      MPI_Allreduce(MPI_IN_PLACE, part.data(), static_cast<int>(part.size()), MPI_FLOAT, MPI_SUM,
                    MPI_COMM_WORLD);
    }
  };
  return hosts;
#else
  throw Error(ErrorKind::usage,
              "started by mpirun, but this limpid was built without MPI (-DLIMPID_MPI=ON)");
#endif
}

}  // namespace limpid
