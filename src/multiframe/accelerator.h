// Where an iteration may compute other than on the processor: a graphics card.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <limpid/error.h>
#include <limpid/image.h>
#include <limpid/multiframe.h>
#include <limpid/network.h>

#include "multiframe/noise_model.h"
#include "multiframe/work_plan.h"

namespace limpid::multiframe {

/// What a device throws. Its memory may be enough for fewer frames at a time; all else means that
/// it is gone.
class DeviceFault : public Error {
 public:
  DeviceFault(bool out_of_memory, const std::string& text)
      : Error(ErrorKind::exhausted, text),
        out_of_memory_(out_of_memory) {}
  [[nodiscard]] bool out_of_memory() const { return out_of_memory_; }

 private:
  bool out_of_memory_;
};

/// The tile that is worked on, the same for all its frames.
struct AcceleratedTile {
  const Tile* tile = nullptr;
  Size transform;
  int factor = 1, reach = 0;
  Weighting weighting;
};

/// One channel of one frame in that tile.
struct AcceleratedFrame {
  std::size_t slot = 0;  ///< of member and channel, by which its transfer is kept
  int channel = 0;
  ConstView light;                ///< (1, height, width) of the tile, NaN where nothing is known
  const Image* kernel = nullptr;  ///< of the tile's cell
  std::vector<float> sigma;       ///< one for all pixels, or one per pixel
  NoiseModel noise;
};
struct AcceleratedSums {
  ResidualStatistics statistics;
  RowCounts counts;
};

/// What Solver::solve_tile() does, elsewhere: begin, then add batches of frames, then finish. All
/// of them throw DeviceFault; after one the tile is begun again.
class Accelerator {
 public:
  virtual ~Accelerator() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  /// `estimate`: the tile with its margin, (channels, height, width), fine pixels.
  virtual void begin(const AcceleratedTile& tile, ConstView estimate) = 0;
  virtual std::vector<AcceleratedSums> add(std::span<const AcceleratedFrame> frames) = 0;
  /// Adds what was summed up to the numerator and the denominator of the tile with its margin.
  virtual void finish(MutableView numerator, MutableView denominator) = 0;
  /// Gives back the memory of what is kept from tile to tile.
  virtual void forget() = 0;
};

/// LibTorch on "cuda:0" and the like, or on "cpu", which tests use; in the library that has it.
std::unique_ptr<Accelerator> make_torch_accelerator(const std::string& device);
struct TorchAccelerators {
  /// That of a CUDA device.
  std::unique_ptr<Accelerator> (*open)(const Device& device);
};
extern const TorchAccelerators torch_accelerators;

/// None for the processor. Throws Error(exhausted) when a device is asked for that is not there.
std::unique_ptr<Accelerator> open_accelerator(const Device& device);

/// deconvolve_frames() on the given accelerator instead of that of options.device.
Multiframe deconvolve_frames_on(std::unique_ptr<Accelerator> accelerator,
                                std::span<const InputFrame> frames,
                                const MultiframeOptions& options, const Progress& progress = {});

}  // namespace limpid::multiframe
