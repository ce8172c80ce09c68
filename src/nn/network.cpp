#include <limpid/network.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>

#include <dlfcn.h>

#include <limpid/error.h>

#include "core/parallel.h"
#include "nn/device.h"
#ifdef LIMPID_HAS_FFTW
#include "nn/guides_fftw.h"
#endif
#include "nn/model_file.h"
#include "nn/tensors.h"
#include "nn/weights.h"

namespace limpid {
namespace {

/// Guide planes reach this far; the tile must bring as much context on each side.
constexpr int context_px = 32;
/// Width of the strip at the tile's rim in which opposite sides are led into each other, because
/// the Fourier transform takes the tile for periodic.
constexpr int seam_px = 16;

void join_opposite_sides(torch::Tensor& tile, int dimension) {
  const auto size = tile.size(dimension);
  const auto first = tile.narrow(dimension, 0, seam_px).clone();
  const auto last = tile.narrow(dimension, size - seam_px, seam_px).clone();
  auto share = (torch::arange(seam_px, tile.options()) + 1) / (2.0 * seam_px);  // rises to one half
  share = dimension == 1 ? share.view({1, -1, 1}) : share.view({1, 1, -1});
  const auto falling = share.flip(dimension);
  tile.narrow(dimension, size - seam_px, seam_px)
      .copy_(last + share * (first.flip(dimension) - last));
  tile.narrow(dimension, 0, seam_px).copy_(first + falling * (last.flip(dimension) - first));
}

/// OpenBLAS, which LibTorch may have been linked to, has threads of its own: they spin while they
/// wait, and how many there are changes the last bits of matrix products.
void blas_on_one_thread() {
  if (auto* const set = dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))
    reinterpret_cast<void (*)(int)>(set)(1);  // NOLINT(*-reinterpret-cast)
}

}  // namespace

struct Network::Body {
  Model model;
  torch::Device device{torch::kCPU};
  torch::ScalarType type = torch::kFloat;

#ifdef LIMPID_HAS_FFTW
  /// `light`: (3, height, width) with its margins; `part`: of what lies within them, whole blocks.
  [[nodiscard]] Image run_on_cpu(const torch::Tensor& light, ConstView saturated,
                                 const TileControls& controls, const torch::Tensor& wishes,
                                 Rect part, GuideMemory* memory) const {
    const auto height = light.size(1), width = light.size(2);
    const ConstView tile(light.data_ptr<float>(), 3,
                         {static_cast<int>(width), static_cast<int>(height)}, width,
                         height * width);
    const Rect inner{context_px, context_px, tile.width() - 2 * context_px,
                     tile.height() - 2 * context_px};
    const Guides guides = guides_in(tile, inner, controls, at::get_num_threads(), memory);
    std::vector<Plane> planes;
    const auto add = [&](ConstView view, int channel, int margin) {
      planes.push_back({view.row(channel, margin).data() + margin, view.row_stride()});
    };
    for (int c = 0; c < 3; ++c) add(tile, c, context_px);
    for (const auto& some : {guides.nonstellar, guides.stellar}) {
      const int count = some->channels() / (controls.mono ? 1 : 3);
      for (int k = 0; k < count; ++k) {
        for (int c = 0; c < 3; ++c) add(some->view(), controls.mono ? k : 3 * k + c, 0);
      }
    }
    add(saturated, 0, 0);
    return to_image(model.network->infer(planes, inner.size(), part, wishes));
  }
#endif
};

struct TileMemory::Body {
#ifdef LIMPID_HAS_FFTW
  GuideMemory guides;
#endif
};

TileMemory::TileMemory([[maybe_unused]] std::size_t settings) : body_(std::make_unique<Body>()) {
#ifdef LIMPID_HAS_FFTW
  body_->guides.most = settings;
#endif
}
TileMemory::TileMemory(TileMemory&&) noexcept = default;
TileMemory& TileMemory::operator=(TileMemory&&) noexcept = default;
TileMemory::~TileMemory() = default;

Network::Network(std::unique_ptr<Body> body) : body_(std::move(body)) {}
Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network&&) noexcept = default;
Network::~Network() = default;

Network Network::load(const std::filesystem::path& weights, Device device, Precision precision) {
  auto body = std::make_unique<Body>();
  body->model = load_model(weights);
  body->device = torch_device(device);
  body->type = scalar_type(precision, body->device);
  body->model.network->to(body->device, body->type);
  body->model.network->lay_channels_last();
  const torch::NoGradGuard no_grad;
  body->model.network->settle();
  blas_on_one_thread();
  return Network(std::move(body));
}

NetworkInfo Network::read_info(const std::filesystem::path& weights) {
  return model_info(weights, read_safetensors_metadata(weights));
}

const NetworkInfo& Network::info() const { return body_->model.info; }

std::string Network::device_text() const {
  return body_->device.str() + (body_->type == torch::kFloat ? ", float32" : ", bfloat16");
}

bool Network::on_cpu() const { return body_->device.is_cpu(); }

int Network::margin_px() { return context_px; }
int Network::granularity_px() { return 2 * block_px; }

Image Network::run(ConstView tile, ConstView saturated, const TileControls& controls, int threads,
                   [[maybe_unused]] TileMemory* memory, std::optional<Rect> wanted) const {
  const torch::NoGradGuard no_grad;
  at::set_num_threads(thread_count(threads));
  const int height = tile.height() - 2 * context_px, width = tile.width() - 2 * context_px;
  if (tile.channels() != 3 || height <= 0 || width <= 0 || height % granularity_px() != 0 ||
      width % granularity_px() != 0) {
    throw Error(ErrorKind::usage,
                "a tile must have three channels and a side that is a multiple of " +
                    std::to_string(granularity_px()) + " px");
  }
  const Rect part = wanted.value_or(Rect{0, 0, width, height});
  assert(part.x % granularity_px() == 0 && part.y % granularity_px() == 0 &&
         part.width % granularity_px() == 0 && part.height % granularity_px() == 0 &&
         intersect(part, {0, 0, width, height}) == part);
  try {
    auto light = to_tensor(tile);
    join_opposite_sides(light, 1);
    join_opposite_sides(light, 2);
    const auto numbers = control_vector(controls);
    const auto wishes =
        torch::tensor(at::ArrayRef<float>(numbers.data(), numbers.size())).unsqueeze(0);
#ifdef LIMPID_HAS_FFTW
    if (body_->device.is_cpu()) {
      return body_->run_on_cpu(light, saturated, controls, wishes, part,
                               memory != nullptr ? &memory->body_->guides : nullptr);
    }
#endif
    light = light.to(body_->device);
    const auto guides = guide_planes(light, controls);
    const auto inner = [&](const torch::Tensor& x) {
      return x.narrow(-2, context_px, height).narrow(-1, context_px, width);
    };
    const auto clipped = to_tensor(saturated).to(body_->device);
    const auto planes = torch::cat(
        {inner(light), inner(guides).reshape({3 * guide_count, height, width}), clipped});
    return to_image(cropped(
        from_blocks(body_->model.network->forward(to_blocks(planes), wishes.to(body_->device))),
        part));
  } catch (const c10::Error& error) {
    // LibTorch has one exception for all; its words tell memory and devices from mistakes of ours.
    std::string text = error.what_without_backtrace();
    text = text.substr(0, text.find('\n'));
    const bool exhausted = text.find("allocate memory") != std::string::npos ||
                           text.find("out of memory") != std::string::npos ||
                           text.find("CUDA") != std::string::npos ||
                           text.find("cuDNN") != std::string::npos;
    throw Error(exhausted ? ErrorKind::exhausted : ErrorKind::failed,
                body_->device.str() + ": " + text);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::exhausted, "out of memory for a tile of " + std::to_string(width) +
                                          " x " + std::to_string(height) + " px");
  }
}

// ---- installed weights -------------------------------------------------------------------------

namespace {

std::vector<std::filesystem::path> model_folders() {
  std::vector<std::filesystem::path> folders;
  if (const char* named = std::getenv("LIMPID_MODELS")) folders.emplace_back(named);
  std::error_code failure;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", failure);
  if (!failure) {
    folders.push_back(program.parent_path() / ".." / "share" / "limpid" / "models");
    // a program run from its build folder finds the weights of its source tree
    folders.push_back(program.parent_path() / ".." / ".." / "models");
  }
  folders.emplace_back(LIMPID_MODEL_FOLDER);
  return folders;
}

}  // namespace

std::vector<InstalledModel> installed_models() {
  std::vector<InstalledModel> models;
  for (const auto& folder : model_folders()) {
    std::error_code failure;
    for (std::filesystem::directory_iterator entry(folder, failure), end; !failure && entry != end;
         entry.increment(failure)) {
      if (entry->path().extension() != ".safetensors") continue;
      const auto path = std::filesystem::weakly_canonical(entry->path(), failure);
      const bool known =
          std::any_of(models.begin(), models.end(), [&](const auto& m) { return m.path == path; });
      if (known) continue;
      try {
        models.push_back({path, Network::read_info(path)});
      } catch (const Error&) {
        continue;  // not weights of ours: another program's file in a shared folder
      }
    }
  }
  const auto version = [](const InstalledModel& model) {
    const auto dash = model.info.name.rfind('-');
    return dash == std::string::npos ? 0 : std::atoi(model.info.name.c_str() + dash + 1);
  };
  std::stable_sort(models.begin(), models.end(),
                   [&](const auto& a, const auto& b) { return version(a) > version(b); });
  return models;
}

std::filesystem::path find_model(const std::string& name) {
  if (name.find('/') != std::string::npos || name.ends_with(".safetensors")) return name;
  const auto models = installed_models();
  if (models.empty()) {
    throw Error(
        ErrorKind::bad_model,
        "no weights are installed; name a folder of them in LIMPID_MODELS or give --ai FILE");
  }
  if (name.empty()) return models.front().path;
  for (const auto& model : models) {
    if (model.info.name == name || model.info.name == "limpid-" + name) return model.path;
  }
  throw Error(ErrorKind::bad_model, "no weights called '" + name +
                                        "' are installed; 'limpid models' lists those that are");
}

}  // namespace limpid
