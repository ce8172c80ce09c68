#include <limpid/network.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <new>
#include <utility>

#include <limpid/error.h>

#include "core/parallel.h"
#include "core/torch_library.h"
#include "nn/device.h"
#include "nn/engine.h"
#ifdef LIMPID_HAS_FFTW
#include "nn/guides_fftw.h"
#endif
#include "nn/model_info.h"
#include "nn/torch_engine.h"

namespace limpid {
namespace {

/// Width of the strip at the tile's rim in which opposite sides are led into each other, because
/// the Fourier transform takes the tile for periodic.
constexpr int seam_px = 16;

/// Leads two values, one near each side, by a share of their difference towards each other.
void join(float share, float& first, float& last) {
  const float step = share * (last - first);
  first += step;
  last -= step;
}

void join_opposite_sides(MutableView tile) {
  const auto each = [](const auto& join_pair) {  // the share rises to one half at the rim
    for (int k = 0; k < seam_px; ++k)
      join_pair(static_cast<float>(k + 1) / (2.0F * seam_px), seam_px - 1 - k);
  };
  for (int c = 0; c < tile.channels(); ++c) {
    each([&](float share, int y) {
      const auto top = tile.row(c, y), bottom = tile.row(c, tile.height() - 1 - y);
      for (std::size_t x = 0; x < top.size(); ++x) join(share, top[x], bottom[x]);
    });
    for (int y = 0; y < tile.height(); ++y) {
      each([&](float share, int x) {
        join(share, tile(c, y, x), tile(c, y, tile.width() - 1 - x));
      });
    }
  }
}

}  // namespace

struct Network::Body {
  std::unique_ptr<Engine> engine;
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
  const NetworkFile file = read_network(weights);
#ifdef LIMPID_HAS_FFTW
  if (!on_graphics_card(device)) body->engine = make_cpu_engine(file, precision);
#endif
  if (!body->engine) {
    body->engine = torch_library("this network").networks->make_engine(file, device, precision);
  }
  return Network(std::move(body));
}

NetworkInfo Network::read_info(const std::filesystem::path& weights) {
  return model_info(weights, read_safetensors_header(weights).metadata);
}

const NetworkInfo& Network::info() const { return body_->engine->info(); }
std::string Network::device_text() const { return body_->engine->device_text(); }
bool Network::on_cpu() const { return body_->engine->on_cpu(); }

int Network::margin_px() { return context_px; }
int Network::granularity_px() { return 2 * block_px; }

Image Network::run(ConstView tile, ConstView saturated, const TileControls& controls, int threads,
                   TileMemory* memory, std::optional<Rect> wanted) const {
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
  GuideMemory* guides = nullptr;
#ifdef LIMPID_HAS_FFTW
  if (memory != nullptr) guides = &memory->body_->guides;
#else
  static_cast<void>(memory);
#endif
  try {
    Image light = copy(tile);
    join_opposite_sides(light.view());
    return body_->engine->run(light.view(), saturated, controls, part, thread_count(threads),
                              guides);
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
