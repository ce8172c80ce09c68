#include "ranks.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>

#include <limpid/error.h>

#include "failure.h"

#ifdef LIMPID_MPI
#include <mpi.h>
#endif

namespace limpid::cli {
namespace {

/// What mpirun, mpiexec or srun tell the processes that they start; 1 for one that they did not.
int announced_count() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"}) {
    if (const char* value = std::getenv(name)) return std::max(1, std::atoi(value));
  }
  return 1;
}

#ifdef LIMPID_MPI
/// An error that all ranks know of.
class Told : public Error {
  using Error::Error;
};

/// MPI's own waiting keeps the processor busy, to the harm of ranks that share it.
void wait_for(MPI_Request request, const std::function<void()>& pause) {
  for (int over = 0;;) {
    MPI_Test(&request, &over, MPI_STATUS_IGNORE);
    if (over != 0) return;
    pause();
  }
}
#endif

}  // namespace

#ifndef LIMPID_MPI

Ranks::Ranks() {
  if (announced_count() > 1)
    throw Error(ErrorKind::usage, "this limpid was built without MPI; start it without mpirun");
}
Ranks::~Ranks() = default;
void Ranks::run(const std::function<void()>& body) { body(); }

#else

Ranks::Ranks() {
  if (announced_count() == 1) return;
  int level = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
  started_ = true;
  MPI_Comm_rank(MPI_COMM_WORLD, &hosts_.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &hosts_.count);
  MPI_Comm machine = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  MPI_Comm_size(machine, &hosts_.on_this_machine);
  MPI_Comm_free(&machine);
  hosts_.sum = [this](std::span<float> values) { sum(values); };
}

Ranks::~Ranks() {
  if (started_) MPI_Finalize();
}

void Ranks::run(const std::function<void()>& body) {
  if (hosts_.count == 1) return body();
  try {
    body();
  } catch (const Told&) {
    throw;
  } catch (const std::exception&) {
    const Error failure = as_error(std::current_exception());
    exchange(failure.exit_code(), failure.what());
  }
  exchange(0, "");
}

/// Waits for all ranks; throws on all of them when `code` is not 0 on one.
void Ranks::exchange(int code, const std::string& text) const {
  struct {
    int failed, rank;
  } own{code != 0 ? 1 : 0, hosts_.rank}, worst{};
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Iallreduce(&own, &worst, 1, MPI_2INT, MPI_MAXLOC, MPI_COMM_WORLD, &request);
  // here a rank waits for slower ones, which may need its core
  wait_for(request, [] { std::this_thread::sleep_for(std::chrono::microseconds(200)); });
  if (worst.failed == 0) return;
  int told[2] = {code, static_cast<int>(text.size())};
  MPI_Bcast(told, 2, MPI_INT, worst.rank, MPI_COMM_WORLD);
  std::string words = text;
  words.resize(static_cast<std::size_t>(told[1]));
  MPI_Bcast(words.data(), told[1], MPI_CHAR, worst.rank, MPI_COMM_WORLD);
  throw Told(static_cast<ErrorKind>(told[0]), words);
}

void Ranks::sum(std::span<float> values) const {
  exchange(0, "");
  constexpr std::size_t at_once = std::size_t{4} << 20;  // MPI takes as much memory again
  while (!values.empty()) {
    const auto part = values.first(std::min(values.size(), at_once));
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Iallreduce(MPI_IN_PLACE, part.data(), static_cast<int>(part.size()), MPI_FLOAT, MPI_SUM,
                   MPI_COMM_WORLD, &request);
    wait_for(request, [] { std::this_thread::yield(); });
    values = values.subspan(part.size());
  }
}

#endif

}  // namespace limpid::cli
