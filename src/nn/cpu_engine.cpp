#include <algorithm>
#include <future>
#include <utility>
#include <vector>

#include "core/torch_library.h"
#include "nn/device.h"
#include "nn/engine.h"
#include "nn/guides_fftw.h"
#include "nn/model_info.h"
#include "nn/torch_engine.h"
#include "nn/unet_on_cpu.h"

namespace limpid {
namespace {

class CpuEngine : public Engine {
 public:
  CpuEngine(NetworkInfo info, bool narrow) : info_(std::move(info)), narrow_(narrow) {}
  [[nodiscard]] const NetworkInfo& info() const override { return info_; }
  [[nodiscard]] std::string device_text() const override {
    return narrow_ ? "cpu, bfloat16" : "cpu, float32";
  }
  [[nodiscard]] bool on_cpu() const override { return true; }

 private:
  NetworkInfo info_;
  bool narrow_;
};

class OwnEngine : public CpuEngine {
 public:
  OwnEngine(NetworkInfo info, bool narrow, std::unique_ptr<UnetOnCpu> network)
      : CpuEngine(std::move(info), narrow),
        network_(std::move(network)) {}
  [[nodiscard]] Image run(ConstView light, ConstView saturated, const TileControls& controls,
                          Rect part, int threads, GuideMemory* memory) const override {
    const TilePlanes seen(light, context_px, saturated, controls, threads, memory);
    return network_->run(seen.planes(), saturated.size(), part, control_vector(controls), threads);
  }

 private:
  std::unique_ptr<UnetOnCpu> network_;
};

class StartingEngine : public CpuEngine {
 public:
  using Started = std::shared_future<std::unique_ptr<Engine>>;
  StartingEngine(NetworkInfo info, bool narrow, Started engine)
      : CpuEngine(std::move(info), narrow),
        engine_(std::move(engine)) {}
  [[nodiscard]] Image run(ConstView light, ConstView saturated, const TileControls& controls,
                          Rect part, int threads, GuideMemory* memory) const override {
    return Started(engine_).get()->run(light, saturated, controls, part, threads, memory);
  }

 private:
  Started engine_;
};

}  // namespace

std::unique_ptr<Engine> start_torch_engine(NetworkFile file, Precision precision) {
  NetworkInfo info = file.info;
  auto engine = std::async(std::launch::async, [file = std::move(file), precision] {
    return torch_library("this network on this processor")
        .networks->make_engine(file, {Device::Kind::cpu, 0}, precision);
  });
  return std::make_unique<StartingEngine>(std::move(info), in_bfloat16(precision, false),
                                          engine.share());
}

std::unique_ptr<Engine> make_cpu_engine(const NetworkFile& file, Precision precision) {
  if (file.info.architecture != "guided_unet") return nullptr;
  const ArchitectureOptions shape = shape_of(file.info);
  const ParameterShapes shapes = guided_unet_shapes(shape);
  check_parameters(file.parameters, shapes, file.path);
  const bool narrow = in_bfloat16(precision, false),
             whole_lanes = std::ranges::all_of(shape.widths, [](int n) { return n % 16 == 0; });
  const Arithmetic by = fastest_arithmetic(narrow);
  if (by == Arithmetic::libtorch || !whole_lanes) return start_torch_engine(file, precision);
  return std::make_unique<OwnEngine>(file.info, narrow,
                                     make_unet_on_cpu(file.parameters, shape.blocks, narrow, by));
}

}  // namespace limpid
