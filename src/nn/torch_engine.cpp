#include "nn/torch_engine.h"

#include <string>
#include <utility>

#include <dlfcn.h>

#include <limpid/error.h>

#ifdef LIMPID_HAS_FFTW
#include "nn/guides_fftw.h"
#endif
#include "nn/model_file.h"
#include "nn/tensors.h"
#include "nn/torch_device.h"
#include "nn/torch_guides.h"

namespace limpid {
namespace {

/// OpenBLAS, which LibTorch may have been linked to, has threads of its own: they spin while they
/// wait, and how many there are changes the last bits of matrix products.
void blas_on_one_thread() {
  if (auto* const set = dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))
    reinterpret_cast<void (*)(int)>(set)(1);  // NOLINT(*-reinterpret-cast)
}

/// LibTorch has one exception for all; its words tell memory and devices from mistakes of ours.
Error error_of(const c10::Error& error, const torch::Device& device) {
  std::string text = error.what_without_backtrace();
  text = text.substr(0, text.find('\n'));
  bool exhausted = false;
  for (const char* word : {"allocate memory", "out of memory", "CUDA", "cuDNN"})
    exhausted = exhausted || text.find(word) != std::string::npos;
  return {exhausted ? ErrorKind::exhausted : ErrorKind::failed, device.str() + ": " + text};
}

class TorchEngine : public Engine {
 public:
  TorchEngine(Model model, const torch::Device& device, torch::ScalarType type)
      : model_(std::move(model)),
        device_(device),
        type_(type) {
    model_.network->to(device_, type_);
    model_.network->lay_channels_last();
  }

  [[nodiscard]] const NetworkInfo& info() const override { return model_.info; }
  [[nodiscard]] std::string device_text() const override {
    return device_.str() + (type_ == torch::kFloat ? ", float32" : ", bfloat16");
  }
  [[nodiscard]] bool on_cpu() const override { return device_.is_cpu(); }

  [[nodiscard]] Image run(ConstView light, ConstView saturated, const TileControls& controls,
                          Rect part, int threads,
                          [[maybe_unused]] GuideMemory* memory) const override {
    const torch::NoGradGuard no_grad;
    at::set_num_threads(threads);
    try {
      const auto numbers = control_vector(controls);
      const auto wishes =
          torch::tensor(at::ArrayRef<float>(numbers.data(), numbers.size())).unsqueeze(0);
#ifdef LIMPID_HAS_FFTW
      if (device_.is_cpu()) {
        const TilePlanes seen(light, context_px, saturated, controls, threads, memory);
        return to_image(model_.network->infer(seen.planes(), saturated.size(), part, wishes));
      }
#endif
      return run_as_tensors(to_tensor(light).to(device_), to_tensor(saturated).to(device_),
                            controls, wishes.to(device_), part);
    } catch (const c10::Error& error) {
      throw error_of(error, device_);
    }
  }

 private:
  [[nodiscard]] Image run_as_tensors(const torch::Tensor& light, const torch::Tensor& clipped,
                                     const TileControls& controls, const torch::Tensor& wishes,
                                     Rect part) const {
    const auto height = clipped.size(1), width = clipped.size(2);
    const auto inner = [&](const torch::Tensor& x) {
      return x.narrow(-2, context_px, height).narrow(-1, context_px, width);
    };
    const auto guides = guide_planes(light, controls);
    const auto planes = torch::cat(
        {inner(light), inner(guides).reshape({3 * guide_count, height, width}), clipped});
    return to_image(cropped(from_blocks(model_.network->forward(to_blocks(planes), wishes)), part));
  }

  Model model_;
  torch::Device device_;
  torch::ScalarType type_;
};

}  // namespace

std::unique_ptr<Engine> make_torch_engine(const NetworkFile& file, const Device& device,
                                          Precision precision) {
  Model model = load_model(file);
  const torch::Device place = torch_device(device);
  const torch::ScalarType type = scalar_type(precision, place);
  blas_on_one_thread();
  return std::make_unique<TorchEngine>(std::move(model), place, type);
}

const TorchNetworks torch_networks{
    .make_engine = make_torch_engine,
    .on_cuda = [](const Device& device) { return torch_device(device).is_cuda(); }};

}  // namespace limpid
