#include <algorithm>
#include <utility>
#include <vector>

#include "nn/device.h"
#include "nn/engine.h"
#include "nn/guides_fftw.h"
#include "nn/model_info.h"
#include "nn/unet_on_cpu.h"

namespace limpid {
namespace {

class OwnEngine : public Engine {
 public:
  OwnEngine(NetworkInfo info, std::unique_ptr<UnetOnCpu> network, bool narrow)
      : info_(std::move(info)),
        network_(std::move(network)),
        narrow_(narrow) {}
  [[nodiscard]] const NetworkInfo& info() const override { return info_; }
  [[nodiscard]] std::string device_text() const override {
    return narrow_ ? "cpu, bfloat16" : "cpu, float32";
  }
  [[nodiscard]] bool on_cpu() const override { return true; }
  [[nodiscard]] Image run(ConstView light, ConstView saturated, const TileControls& controls,
                          Rect part, int threads, GuideMemory* memory) const override {
    const TilePlanes seen(light, context_px, saturated, controls, threads, memory);
    return network_->run(seen.planes(), saturated.size(), part, control_vector(controls), threads);
  }

 private:
  NetworkInfo info_;
  std::unique_ptr<UnetOnCpu> network_;
  bool narrow_;
};

}  // namespace

std::unique_ptr<Engine> make_own_engine(const std::filesystem::path& weights, Precision precision) {
  const bool narrow = in_bfloat16(precision, false);
  const Arithmetic by = fastest_arithmetic(narrow);
  const SafetensorsHeader header = read_safetensors_header(weights);
  NetworkInfo info = model_info(weights, header.metadata);
  const ArchitectureOptions shape = shape_of(info);
  const bool whole_lanes = std::ranges::all_of(shape.widths, [](int n) { return n % 16 == 0; });
  if (by == Arithmetic::libtorch || info.architecture != "guided_unet" || !whole_lanes)
    return nullptr;
  const ParameterShapes shapes = guided_unet_shapes(shape);
  Parameters parameters = read_parameters(weights, header);
  add_missing_plane(parameters);
  check_parameters(parameters, shapes, weights);
  for (const auto& [name, sides] : shapes)
    info.parameters += static_cast<std::int64_t>(parameters.at(name).values.size());
  return std::make_unique<OwnEngine>(
      std::move(info), make_unet_on_cpu(parameters, shape.blocks, narrow, by), narrow);
}

}  // namespace limpid
