// What computes a network, behind Network: our own convolutions, or LibTorch.
#pragma once

#include <memory>
#include <string>

#include <limpid/network.h>

#include "nn/model_info.h"

namespace limpid {

struct GuideMemory;

/// Guide planes reach this far; a tile must bring as much context on each side.
inline constexpr int context_px = 32;

class Engine {
 public:
  virtual ~Engine() = default;
  [[nodiscard]] virtual const NetworkInfo& info() const = 0;
  [[nodiscard]] virtual std::string device_text() const = 0;
  [[nodiscard]] virtual bool on_cpu() const = 0;
  /// As Network::run(), of a tile that can be taken for periodic; `part`: of what lies within its
  /// margins.
  [[nodiscard]] virtual Image run(ConstView light, ConstView saturated,
                                  const TileControls& controls, Rect part, int threads,
                                  GuideMemory* memory) const = 0;
};

/// On the processor: by convolutions of our own, or where its own for bfloat16 are faster by
/// LibTorch, which then starts while the caller goes on; what run() throws tells of it, too. Null
/// for networks that only LibTorch computes. Throws Error(bad_model).
std::unique_ptr<Engine> make_cpu_engine(const NetworkFile& file, Precision precision);

/// The latter, whose weights are good.
std::unique_ptr<Engine> start_torch_engine(NetworkFile file, Precision precision);

}  // namespace limpid
