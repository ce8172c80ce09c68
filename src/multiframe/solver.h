// The iterations: predict, weigh the residuals, project back, multiply.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <limpid/multiframe.h>

#include "core/fft_columns.h"
#include "core/fft_lines.h"
#include "multiframe/accelerator.h"
#include "multiframe/bright_parts.h"
#include "multiframe/frame_stream.h"
#include "multiframe/noise_model.h"
#include "multiframe/work_plan.h"

namespace limpid::multiframe {

/// One channel of one frame in one tile.
struct Task;

class Solver {
 public:
  /// `kernels`: per cell, member and channel, (1, 2 reach + 1, 2 reach + 1) on the fine grid.
  /// Without an accelerator the processor does all.
  Solver(FrameStream& stream, const MultiframeOptions& options,
         std::vector<std::vector<Image>> kernels, int reach,
         std::unique_ptr<Accelerator> accelerator = {});
  ~Solver();

  /// Starts from a stack on the fine grid, light per fine pixel in matched units; NaN is filled.
  void begin(Image seed);
  /// The same, then goes on from `state`.
  void resume(Image seed, const MultiframeState& state);
  [[nodiscard]] MultiframeState state() const;

  /// One iteration. Returns false when the solution has settled (early stop). Throws FramesLost, on
  /// all hosts, where frames cannot be read any more: state() is that before the iteration.
  bool iterate(const Progress& progress);
  [[nodiscard]] int iterations_done() const { return done_; }

  /// The estimate without its margin, light per fine pixel in matched units; about stars the sky of
  /// the seed, see with_sky_of_stack(). All hosts take part.
  [[nodiscard]] Image result();
  [[nodiscard]] const WorkPlan& plan() const { return plan_; }
  [[nodiscard]] const std::vector<IterationSummary>& history() const { return history_; }
  [[nodiscard]] std::vector<std::string> take_notes();
  void summarise(std::vector<FrameSummary>& frames, const std::vector<int>& indices) const;
  [[nodiscard]] double transform_share() const;
  [[nodiscard]] double transforms_per_frame() const;
  /// What computes now.
  [[nodiscard]] std::string device() const { return accelerator_ ? accelerator_->name() : "cpu"; }
  /// For the solver that comes after this one; none where the processor has taken over.
  [[nodiscard]] std::unique_ptr<Accelerator> take_accelerator();

 private:
  void make_plan();
  [[nodiscard]] bool make_smaller();
  void give_way(const DeviceFault& fault);
  [[nodiscard]] std::vector<Image> mean_kernels() const;
  void take_memory();
  void accumulate(const Progress& progress);
  /// Members, and their pixels of the tile.
  using Batch = std::pair<std::span<const int>, std::vector<ConstView>>;
  /// Calls `work` for one batch of this host's frames after the other while the next are read.
  void for_batches(std::size_t tile, const Progress& progress,
                   const std::function<void(const Batch&, const std::function<void()>&)>& work);
  /// What the user reads meanwhile: where it is, and the size of the last iteration's update.
  [[nodiscard]] std::string stage_at(std::size_t tile, std::size_t frame, std::size_t frames) const;
  void solve_tile(std::size_t index, const Progress& progress);
  void solve_tile_on_device(std::size_t index, const Progress& progress);
  [[nodiscard]] std::vector<float> sigmas_of(const Tile& tile, int member, int channel) const;
  void keep(int member, int channel, const ResidualStatistics& statistics, const RowCounts& counts);
  /// The rows of a transform that hold the tile's pixels; the others are margin.
  struct Lines {
    int begin = 0, end = 0;
    [[nodiscard]] int count() const { return end - begin; }
  };
  [[nodiscard]] Lines data_rows(const Tile& tile) const {
    return {reach_, reach_ + tile.data.height * factor_};
  }
  /// Of the largest tile.
  [[nodiscard]] int most_data_rows() const;
  /// Whether another column of a transform than this one has the frequency -kx.
  [[nodiscard]] bool has_mirror(int kx) const { return kx > 0 && 2 * kx < plan_.transform.width; }
  class RowWeigher;
  [[nodiscard]] int frames_in_flight() const;
  void transform_estimate(const Tile& tile, int channel, ColumnSpectrum& spectrum);
  const ColumnSpectrum& transfer_of(const Tile& tile, Task& task);
  void predict_and_weigh(const Tile& tile, Task& first, Task& second);
  void predict_columns(const Tile& tile, Task& first, Task& second);
  void weigh_rows(const Tile& tile, Task& first, Task& second);
  void clear_columns(std::span<ComplexLines> sums, int begin, int count) const;
  void add_products(const Tile& tile, std::span<Task> tasks, std::span<ComplexLines> sums,
                    bool begun);
  void add_back(const Tile& tile, std::span<ComplexLines> sums);
  [[nodiscard]] float stack_sigma() const;
  void multiply_estimate();
  void measure_change(float level, float seen, IterationSummary& summary);
  [[nodiscard]] IterationSummary update();
  [[nodiscard]] bool settle(const IterationSummary& summary);
  [[nodiscard]] std::vector<float> shared_noise() const;
  [[nodiscard]] std::size_t slot(int member, int channel) const {
    return static_cast<std::size_t>(member) * static_cast<std::size_t>(channels_) +
           static_cast<std::size_t>(channel);
  }
  [[nodiscard]] bool mine(int member) const { return stream_.belongs_to(hosts_, member); }

  FrameStream& stream_;
  const MultiframeOptions& options_;
  std::vector<std::vector<Image>> kernels_;  ///< cell; member * channels + channel
  int reach_, factor_, channels_;
  Hosts hosts_;
  Size fine_, canvas_;
  Weighting weighting_;
  WorkPlan plan_;
  int tile_limit_ = 0, batch_limit_ = 0;  ///< lowered when memory runs out; 0: none
  bool memory_taken_ = false;
  std::unique_ptr<Accelerator> accelerator_;

  Image estimate_, numerator_, denominator_;
  Image seed_;                       ///< without a margin
  std::vector<Image> mean_kernels_;  ///< of all members: per cell and channel
  BrightParts bright_;
  std::vector<std::vector<ColumnSpectrum>>
      transfers_;                  ///< as kernels_, when kept; others are empty
  std::vector<Task> tasks_;        ///< of the last batch: their memory is used again
  std::vector<NoiseModel> noise_;  ///< member * channels + channel
  std::vector<ResidualStatistics> statistics_;
  std::vector<RowCounts> counts_;
  int done_ = 0;
  double smooth_update_ = 1, smooth_change_ = 1;
  int settled_ = 0;
  std::vector<IterationSummary> history_;
  std::vector<std::string> notes_;
  std::atomic<std::uint64_t> transforms_{0}, frame_tasks_{0}, transform_ns_{0}, busy_ns_{0};
};

}  // namespace limpid::multiframe
