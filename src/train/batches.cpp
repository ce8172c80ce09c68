#include "train/batches.h"

#include <omp.h>

#include <algorithm>

#include "core/parallel.h"
#include "nn/architecture.h"
#include "train/clock.h"

namespace limpid {
namespace {

Example make_example(const SceneSimulator& simulator, std::uint64_t index, int side) {
  const torch::NoGradGuard no_grad;
  SceneOptions options;
  options.side_px = side;
  const SceneTensors scene = simulator.draw_tensors(index, options);
  const auto guides = guide_planes(scene.input, scene.controls);
  const auto all =
      torch::cat({scene.input, guides.view({3 * guide_count, guides.size(2), guides.size(3)}),
                  scene.saturated});
  return {inner(all, side), inner(scene.target, side), control_vector(scene.controls)};
}

/// Writes (channels, side, side) planes, mirrored or turned, as rows of blocks: (side / block_px)^2
/// rows of channels * block_area values. The same order as turned() and to_blocks() give.
void write_blocks(const torch::Tensor& planes, int turn, float* out) {
  const auto channels = planes.size(0), side = planes.size(1), blocks = side / block_px;
  const float* in = planes.data_ptr<float>();
  // turned(): first the mirrorings, then the transposition; followed backwards here
  const std::int64_t down = (turn & 4) != 0 ? 1 : side, right = (turn & 4) != 0 ? side : 1;
  const auto start_x = (turn & 1) != 0 ? side - 1 : 0, start_y = (turn & 2) != 0 ? side - 1 : 0;
  const std::int64_t sign_x = (turn & 1) != 0 ? -1 : 1, sign_y = (turn & 2) != 0 ? -1 : 1;
  const auto step = [&](std::int64_t stride) { return stride == 1 ? sign_x : sign_y * side; };
  const std::int64_t step_y = step(down), step_x = step(right);
  const std::int64_t start = start_y * side + start_x;
  for (std::int64_t by = 0; by < blocks; ++by) {
    for (std::int64_t bx = 0; bx < blocks; ++bx) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const float* corner =
            in + c * side * side + start + by * block_px * step_y + bx * block_px * step_x;
        for (int i = 0; i < block_px; ++i) {
          for (int j = 0; j < block_px; ++j) *out++ = corner[i * step_y + j * step_x];
        }
      }
    }
  }
}

/// The controls of a mirrored or turned example.
std::array<float, control_count> turned_controls(std::array<float, control_count> controls,
                                                 int turn) {
  if ((turn & 1) != 0) controls[2] = -controls[2];
  if ((turn & 2) != 0) controls[2] = -controls[2];
  if ((turn & 4) != 0) controls[1] = -controls[1];
  return controls;
}

}  // namespace

// ---- loader

Loader::Loader(const SceneSimulator& simulator, int side, int threads, Share share,
               std::uint64_t first)
    : simulator_(simulator),
      side_(side),
      share_(share),
      next_(first),
      wanted_(first) {
  for (int i = 0; i < threads; ++i)
    threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

Loader::~Loader() {
  for (auto& thread : threads_) thread.request_stop();
  room_.notify_all();
}

Example Loader::take() {
  std::unique_lock lock(mutex_);
  const double start = seconds();
  ready_.wait(lock, [&] { return failure_ || done_.count(wanted_) > 0; });
  waited_ += seconds() - start;
  if (failure_) std::rethrow_exception(failure_);
  Example example = std::move(done_.at(wanted_));
  done_.erase(wanted_++);
  room_.notify_all();
  return example;
}

double Loader::busy_seconds() const {
  const std::lock_guard lock(mutex_);
  return busy_;
}

void Loader::work(const std::stop_token& stop) {
  omp_set_num_threads(1);
  while (!stop.stop_requested()) {
    std::uint64_t index = 0;
    {
      std::unique_lock lock(mutex_);
      room_.wait(lock, stop, [&] { return next_ < wanted_ + 48; });
      if (stop.stop_requested()) return;
      index = next_++;
    }
    try {
      const double start = seconds();
      Example example = make_example(simulator_, share_.scene(index), side_);
      const std::lock_guard lock(mutex_);
      busy_ += seconds() - start;
      done_.emplace(index, std::move(example));
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
    ready_.notify_all();
  }
}

// ---- batches

Batches::Batches(const SceneSimulator& simulator, const TrainOptions& options,
                 std::int64_t first_step)
    : options_(options),
      threads_(thread_count(options.threads)),
      fresh_(std::max(1, options.batch / std::max(1, options.reuse))),
      share_{static_cast<std::uint64_t>(options.hosts.rank) * static_cast<std::uint64_t>(fresh_),
             static_cast<std::uint64_t>(fresh_),
             static_cast<std::uint64_t>(options.hosts.count) * static_cast<std::uint64_t>(fresh_)},
      step_(std::max<std::int64_t>(0, first_step - history_steps)),
      loader_(simulator, options.patch_px, std::max(1, options.loader_threads), share_,
              static_cast<std::uint64_t>(step_) * static_cast<std::uint64_t>(fresh_)) {
  // What was in the pool when the run was stopped is drawn again.
  for (; step_ < first_step; ++step_) refill();
}

Batches::Batch Batches::next() {
  refill();
  Random random(options_.seed ^ 0xba7c4ULL, static_cast<std::uint64_t>(step_++));
  const std::int64_t count = options_.batch, blocks = options_.patch_px / block_px;
  std::vector<std::pair<const Example*, int>> chosen;
  const auto steps = static_cast<int>(pool_.size()) / fresh_, all = static_cast<int>(share_.all);
  for (std::int64_t i = 0; i < options_.hosts.count * count; ++i) {
    // scene `at` of this step, or of an earlier one; drawn for all hosts alike
    const int at = static_cast<int>(i) % all - static_cast<int>(share_.first);
    const int age = i < all ? 0 : random.index(steps), turn = random.index(8);
    if (at < 0 || at >= fresh_) continue;
    chosen.emplace_back(&pool_[static_cast<std::size_t>((steps - 1 - age) * fresh_ + at)], turn);
  }
  auto planes = torch::empty({count, blocks, blocks, plane_count * block_area});
  auto targets = torch::empty({count, blocks, blocks, 3 * block_area});
  auto controls = torch::empty({count, control_count});
  parallel_for(static_cast<int>(count), threads_, [&](int i) {
    const auto& [example, turn] = chosen[static_cast<std::size_t>(i)];
    write_blocks(example->planes, turn, planes.data_ptr<float>() + i * planes.stride(0));
    write_blocks(example->target, turn, targets.data_ptr<float>() + i * targets.stride(0));
    const auto wishes = turned_controls(example->controls, turn);
    std::copy(wishes.begin(), wishes.end(), controls.data_ptr<float>() + i * control_count);
  });
  return {planes.permute({0, 3, 1, 2}), targets.permute({0, 3, 1, 2}), controls};
}

void Batches::refill() {
  for (int i = 0; i < fresh_; ++i) pool_.push_back(loader_.take());
  while (pool_.size() > static_cast<std::size_t>(history_steps * fresh_)) pool_.pop_front();
}

}  // namespace limpid
