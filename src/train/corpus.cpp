#include "train/corpus.h"

#include <algorithm>
#include <span>

#include <nlohmann/json.hpp>

#include <limpid/error.h>
#include <limpid/training.h>

#include "core/statistics.h"
#include "nn/model_info.h"
#include "nn/safetensors.h"
#include "nn/weights.h"
#include "train/star_removal.h"
#include "train/torch_training.h"

namespace limpid {
namespace {

using torch::indexing::None;
using torch::indexing::Slice;

constexpr double full_scale = 65535.0;

/// Area average by a factor that need not be whole.
torch::Tensor reduce_by(const torch::Tensor& picture, double factor) {
  if (factor <= 1.001) return picture;
  const auto height = static_cast<std::int64_t>(static_cast<double>(picture.size(1)) / factor);
  const auto width = static_cast<std::int64_t>(static_cast<double>(picture.size(2)) / factor);
  return torch::adaptive_avg_pool2d(picture.unsqueeze(0), {height, width})[0];
}

/// Eight bits: brightness (r + 2g + b) / 4 of each pixel, and of 2x2 pixels together how far red
/// and blue lie above it, which the eye and the network's three like channels need less finely.
struct Packed {
  torch::Tensor light, colour;  ///< uint8 (side, side) and (2, side / 2, side / 2)
};
constexpr double colour_range = 0.75;  // of either difference, for values in [0,1]

Packed pack(const torch::Tensor& picture) {
  const auto light = (picture[0] + 2 * picture[1] + picture[2]) / 4;
  const auto colour = torch::stack({picture[0] - light, picture[2] - light});
  const auto mean = torch::avg_pool2d(colour.unsqueeze(0), 2)[0];
  return {(255 * light).round().to(torch::kByte),
          (127.5 + 127.5 / colour_range * mean).round().clamp(0, 255).to(torch::kByte)};
}

torch::Tensor unpack(const Packed& packed) {
  namespace F = torch::nn::functional;
  const auto light = packed.light.to(torch::kFloat) / 255;
  const auto mean = (packed.colour.to(torch::kFloat) - 127.5) * (colour_range / 127.5);
  const auto colour = F::interpolate(mean.unsqueeze(0), F::InterpolateFuncOptions()
                                                            .size(light.sizes().vec())
                                                            .mode(torch::kBilinear)
                                                            .align_corners(false))[0];
  return torch::stack({light + colour[0], light - (colour[0] + colour[1]) / 2, light + colour[1]})
      .clamp(0, 1);
}

/// Mean slope over mean light: plain patches teach little.
double structure_of(const torch::Tensor& patch) {
  const auto light = patch.mean(0);
  const auto slope = (light.index({Slice(1, None)}) - light.index({Slice(None, -1)})).abs().mean();
  return slope.item<double>() / (0.02 + light.mean().item<double>());
}

torch::Tensor unsigned_16(const torch::Tensor& pixels) {
  return pixels.to(torch::kInt).bitwise_and(0xffff).to(torch::kFloat) / full_scale;
}

}  // namespace

torch::Tensor turned(const torch::Tensor& x, int turn) {
  auto result = x;
  if ((turn & 1) != 0) result = result.flip(-1);
  if ((turn & 2) != 0) result = result.flip(-2);
  if ((turn & 4) != 0) result = result.transpose(-1, -2);
  return result;
}

// ---- building ----------------------------------------------------------------------------------

namespace {

/// What CorpusBuilder hides.
class PatchWriter : public CorpusWriter {
 public:
  PatchWriter(std::filesystem::path output, CorpusOptions options)
      : output_(std::move(output)),
        options_(std::move(options)) {}
  void add(const CorpusSource& source) override;
  void add_corpus(const std::filesystem::path& path) override;
  CorpusReport finish() override;

 private:
  struct Patch {
    torch::Tensor pixels;  // int16 view of unsigned values
    double structure;
    bool validation, linear;
    std::string source;
  };
  std::filesystem::path output_;
  CorpusOptions options_;
  CorpusReport report_;
  std::vector<Patch> patches_;
  nlohmann::json manifest_ = nlohmann::json::array();
};

void PatchWriter::add(const CorpusSource& source) {
  const torch::NoGradGuard no_grad;
  const auto size = source.image.size();
  auto picture = torch::from_blob(const_cast<float*>(source.image.pixels().data()),
                                  {source.image.channels(), size.height, size.width});
  if (picture.size(0) == 1) picture = picture.expand({3, -1, -1});
  picture = torch::nan_to_num(picture).clamp(0, 1);
  if (source.linear) {
    const auto flat = picture.contiguous();  // LibTorch's own quantile ends at 16 million values
    const std::span<const float> values(flat.data_ptr<float>(),
                                        static_cast<std::size_t>(flat.numel()));
    picture = (picture / std::max(quantile(values, 0.9995), 1e-9F)).clamp(0, 1).sqrt();
  }
  picture = reduce_by(picture, source.reduce).contiguous();
  const int stars = remove_stars(picture);
  report_.stars_removed += stars;
  const bool validation = std::any_of(
      options_.validation.begin(), options_.validation.end(),
      [&](const std::string& word) { return source.object.find(word) != std::string::npos; });
  const int side = options_.patch_px;
  int count = 0;
  const auto cut = [&](std::int64_t extent) {  // evenly spread, overlapping if need be
    const std::int64_t n = (extent + side - 1) / side;
    std::vector<std::int64_t> starts;
    for (std::int64_t i = 0; i < n; ++i)
      starts.push_back(n == 1 ? 0 : i * (extent - side) / (n - 1));
    return starts;
  };
  if (picture.size(1) < side || picture.size(2) < side) {
    // smaller than a patch: mirrored out to one
    namespace F = torch::nn::functional;
    const auto pad = [&](std::int64_t extent) {
      return std::clamp<std::int64_t>(side - extent, 0, extent - 1);
    };
    picture = F::pad(picture.unsqueeze(0),
                     F::PadFuncOptions({0, pad(picture.size(2)), 0, pad(picture.size(1))})
                         .mode(torch::kReflect))[0];
    if (picture.size(1) < side || picture.size(2) < side) return;
  }
  for (const auto y : cut(picture.size(1))) {
    for (const auto x : cut(picture.size(2))) {
      const auto patch = picture.index({Slice(), Slice(y, y + side), Slice(x, x + side)});
      const double clipped = (patch > 0.985).any(0).to(torch::kFloat).mean().item<double>();
      if (clipped > 0.02) continue;
      patches_.push_back({(patch * full_scale).round().to(torch::kInt).to(torch::kShort),
                          structure_of(patch), validation, source.linear, source.name});
      ++count;
    }
  }
  manifest_.push_back({{"name", source.name},
                       {"object", source.object},
                       {"credit", source.credit},
                       {"reduce", source.reduce},
                       {"stars_removed", stars},
                       {"patches", count},
                       {"validation", validation}});
}

void PatchWriter::add_corpus(const std::filesystem::path& path) {
  for (const bool validation : {false, true}) {
    const CorpusPatches patches = CorpusPatches::load(path, validation);
    for (int i = 0; i < patches.count(); ++i) {
      const auto patch = patches.patch(i);
      patches_.push_back({(patch * full_scale).round().to(torch::kInt).to(torch::kShort),
                          structure_of(patch), validation, patches.linear(i), path.string()});
    }
  }
  options_.patch_px = static_cast<int>(patches_.back().pixels.size(1));
  auto metadata = read_safetensors_header(path).metadata;
  const auto manifest = nlohmann::json::parse(metadata["manifest"], nullptr, false);
  if (manifest.is_array()) manifest_ = manifest;
}

CorpusReport PatchWriter::finish() {
  if (patches_.empty()) throw Error(ErrorKind::bad_input, "no image gave a usable patch");
  std::stable_sort(patches_.begin(), patches_.end(),
                   [](const auto& a, const auto& b) { return a.structure > b.structure; });
  const double patch_megapixels = options_.patch_px * options_.patch_px * 1e-6;
  const double bytes_per_pixel = options_.bits == 8 ? 1.5 : 6;
  double megapixels = options_.max_megapixels;
  if (options_.max_megabytes > 0) {
    const double text = static_cast<double>(manifest_.dump().size()) * 1.1e-6 + 0.02;
    megapixels = std::min(megapixels, (options_.max_megabytes - text) / bytes_per_pixel);
  }
  const auto keep = static_cast<std::size_t>(std::max(1.0, megapixels / patch_megapixels));
  if (patches_.size() > keep) patches_.resize(keep);
  TensorFile file;
  nlohmann::json linear = {{"training", nlohmann::json::array()},
                           {"validation", nlohmann::json::array()}};
  for (const bool validation : {false, true}) {
    std::vector<torch::Tensor> side, colour;
    const char* key = validation ? "validation" : "training";
    for (const auto& patch : patches_) {
      if (patch.validation != validation) continue;
      if (options_.bits == 8) {
        const Packed packed = pack(unsigned_16(patch.pixels));
        side.push_back(packed.light);
        colour.push_back(packed.colour);
      } else {
        side.push_back(patch.pixels);
      }
      linear[key].push_back(patch.linear);
    }
    if (side.empty()) throw Error(ErrorKind::bad_input, std::string("no patch is left for ") + key);
    file.tensors[key] = torch::stack(side);
    if (!colour.empty()) file.tensors[std::string(key) + "_colour"] = torch::stack(colour);
    (validation ? report_.validation_patches : report_.training_patches) =
        static_cast<int>(side.size());
  }
  if (options_.bits == 8 || options_.max_megabytes > 0) {
    // not the same material as that of the whole corpus
    manifest_.push_back(
        {{"name", "packed"}, {"bits", options_.bits}, {"patches", report_.training_patches}});
  }
  report_.manifest_hash = hash_text(manifest_.dump());
  file.metadata = {{"kind", options_.bits == 8 ? "limpid corpus 2" : "limpid corpus 1"},
                   {"manifest", manifest_.dump()},
                   {"manifest_hash", report_.manifest_hash},
                   {"linear", linear.dump()}};
  write_safetensors(output_, file);
  return report_;
}

}  // namespace

std::unique_ptr<CorpusWriter> by_libtorch::make_corpus_writer(std::filesystem::path output,
                                                              CorpusOptions options) {
  return std::make_unique<PatchWriter>(std::move(output), std::move(options));
}

// ---- drawing -----------------------------------------------------------------------------------

CorpusPatches CorpusPatches::load(const std::filesystem::path& path, bool validation) {
  TensorFile file = [&] {
    try {
      return read_safetensors(path);
    } catch (const Error& error) {  // to the user it is an image file like others, no model
      throw Error(ErrorKind::bad_input, error.what());
    }
  }();
  const char* key = validation ? "validation" : "training";
  const bool packed = file.metadata["kind"] == "limpid corpus 2";
  if ((!packed && file.metadata["kind"] != "limpid corpus 1") || file.tensors.count(key) == 0) {
    throw Error(ErrorKind::bad_input,
                path.string() + ": not a corpus; make one with 'limpid corpus'");
  }
  CorpusPatches result;
  result.patches_ = file.tensors[key];
  result.hash_ = file.metadata["manifest_hash"];
  const auto linear = nlohmann::json::parse(file.metadata["linear"], nullptr, false);
  const auto& patches = result.patches_;
  bool sound = linear.is_object() && linear.contains(key) && linear[key].is_array() &&
               patches.dim() >= 3 && patches.size(0) > 0 && patches.size(-1) > 1 &&
               patches.size(-1) == patches.size(-2) &&
               static_cast<std::int64_t>(linear[key].size()) == patches.size(0) &&
               std::ranges::all_of(linear[key], [](const auto& v) { return v.is_boolean(); });
  if (packed) {
    const auto& colour = result.colour_ = file.tensors[std::string(key) + "_colour"];
    sound = sound && patches.dim() == 3 && colour.defined() && colour.dim() == 4 &&
            patches.scalar_type() == torch::kByte && colour.scalar_type() == torch::kByte &&
            colour.size(0) == patches.size(0) && colour.size(1) == 2 &&
            colour.size(2) == patches.size(1) / 2 && colour.size(3) == patches.size(2) / 2;
  } else {
    sound = sound && patches.dim() == 4 && patches.size(1) == 3 &&
            patches.scalar_type() == torch::kShort;
  }
  if (!sound) throw Error(ErrorKind::bad_input, path.string() + ": damaged corpus");
  for (const auto& value : linear[key]) result.linear_.push_back(value.get<bool>());
  return result;
}

torch::Tensor CorpusPatches::patch(int index) const {
  return colour_.defined() ? unpack({patches_[index], colour_[index]})
                           : unsigned_16(patches_[index]);
}

torch::Tensor CorpusPatches::draw(Random& random, int side) const {
  const int index = random.index(count());
  const auto available = patches_.size(-1);
  int span = side;
  if (2 * side <= available && random.chance(0.3)) span = 2 * side;
  span = static_cast<int>(std::min<std::int64_t>(span, available));
  const auto y = random.index(static_cast<int>(available) - span + 1);
  const auto x0 = random.index(static_cast<int>(available) - span + 1);
  const auto window = [&](const torch::Tensor& whole) {
    return whole.index({Slice(), Slice(y, y + span), Slice(x0, x0 + span)});
  };
  auto light = colour_.defined() ? window(patch(index)) : unsigned_16(window(patches_[index]));
  const double power = linear_[static_cast<std::size_t>(index)] ? 2.0 : random.uniform(1.0, 2.6);
  light = light.pow(power);
  if (span == 2 * side) light = torch::avg_pool2d(light.unsqueeze(0), 2)[0];
  if (light.size(1) < side) {
    namespace F = torch::nn::functional;
    const auto pad = side - light.size(1);
    light =
        F::pad(light.unsqueeze(0), F::PadFuncOptions({0, pad, 0, pad}).mode(torch::kReflect))[0];
  }
  return turned(light, random.index(8)).contiguous();
}

}  // namespace limpid
