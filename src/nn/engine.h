// What computes a network, behind Network: our own convolutions, or LibTorch.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <limpid/network.h>

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

/// On the processor, by convolutions of our own. Null where LibTorch's suit the network or the
/// processor better. Throws Error(bad_model).
std::unique_ptr<Engine> make_own_engine(const std::filesystem::path& weights, Precision precision);

}  // namespace limpid
