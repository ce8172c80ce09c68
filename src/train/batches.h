// Scenes flow in from loader threads, batches of them flow out.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "nn/torch_guides.h"
#include "train/simulator.h"

namespace limpid {

/// A scene cut to the patch, with its guide planes; flat planes (plane_count, side, side).
struct Example {
  torch::Tensor planes, target;
  std::array<float, control_count> controls{};
};

/// Which scenes of a step are this host's: `own` of `all`, from `first` on.
struct Share {
  std::uint64_t first = 0, own = 1, all = 1;
  /// The index of the n-th scene of this host.
  [[nodiscard]] std::uint64_t scene(std::uint64_t n) const {
    return n / own * all + first + n % own;
  }
};

/// Draws examples ahead of the trainer; hands them out in the order of their index.
class Loader {
 public:
  Loader(const SceneSimulator& simulator, int side, int threads, Share share, std::uint64_t first);
  ~Loader();
  /// The next one; waits for it. Throws what a thread has thrown.
  Example take();
  /// That threads have drawn, and that take() has waited.
  [[nodiscard]] double busy_seconds() const;
  [[nodiscard]] double waited_seconds() const { return waited_; }

 private:
  void work(const std::stop_token& stop);

  const SceneSimulator& simulator_;
  int side_;
  Share share_;
  std::uint64_t next_, wanted_;
  mutable std::mutex mutex_;
  std::condition_variable_any ready_, room_;
  std::map<std::uint64_t, Example> done_;
  std::exception_ptr failure_;
  double busy_ = 0, waited_ = 0;
  std::vector<std::jthread> threads_;
};

/// Batches in which every scene appears `reuse` times, far apart and turned anew. Several hosts
/// together make the batch that one alone would make of all their patches: each holds some scenes
/// of every step, and a patch repeats an earlier scene of the same host.
class Batches {
 public:
  /// From this step on, as if all before it had been made.
  Batches(const SceneSimulator& simulator, const TrainOptions& options, std::int64_t first_step);
  struct Batch {
    torch::Tensor planes, target, controls;  ///< pixels in blocks laid into channels
  };
  Batch next();
  [[nodiscard]] const Loader& loader() const { return loader_; }

 private:
  static constexpr std::int64_t history_steps = 48;
  void refill();

  TrainOptions options_;
  int threads_, fresh_;
  Share share_;
  std::int64_t step_;
  Loader loader_;
  std::deque<Example> pool_;
};

}  // namespace limpid
