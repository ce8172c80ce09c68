#include "train/corpus.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <span>

#include <nlohmann/json.hpp>

#include <limpid/error.h>
#include <limpid/training.h>

#include "core/statistics.h"
#include "nn/model_file.h"
#include "nn/weights.h"

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

}  // namespace

int remove_stars(torch::Tensor& picture) {
  namespace F = torch::nn::functional;
  const auto height = picture.size(1), width = picture.size(2);
  const auto light = std::get<0>(picture.max(0)).contiguous();
  // Top hat: what stands above an opening by a 9 px square is small in at least one direction.
  const auto pool = [](const torch::Tensor& x, int side) {
    return F::max_pool2d(x.unsqueeze(0).unsqueeze(0),
                         F::MaxPool2dFuncOptions(side).stride(1).padding(side / 2))[0][0];
  };
  const auto opened = pool(-pool(-light, 9), 9);
  const auto hat = (light - opened).contiguous();
  const auto peak = (light == pool(light, 5)).logical_and(hat > 0.05).contiguous();
  const float* l = light.data_ptr<float>();
  const float* t = hat.data_ptr<float>();
  const bool* p = peak.data_ptr<bool>();
  auto mask = torch::zeros({height, width});
  float* m = mask.data_ptr<float>();
  const auto at = [&](std::int64_t y, std::int64_t x) {
    return l[std::clamp<std::int64_t>(y, 0, height - 1) * width +
             std::clamp<std::int64_t>(x, 0, width - 1)];
  };
  int removed = 0;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      if (!p[y * width + x]) continue;
      const float top = l[y * width + x], height_over = t[y * width + x], base = top - height_over;
      // A star has fallen in every direction; a filament has not along itself.
      float highest = 0, mean = 0;
      for (int k = 0; k < 16; ++k) {
        const double angle = std::numbers::pi * k / 8;
        const float value =
            at(y + std::lround(5 * std::sin(angle)), x + std::lround(5 * std::cos(angle)));
        highest = std::max(highest, value - base);
        mean += (value - base) / 16;
      }
      if (highest > 0.6F * height_over || mean > 0.35F * height_over) continue;
      int radius = 3;
      for (; radius < 14; ++radius) {
        float ring = 0;
        for (int k = 0; k < 16; ++k) {
          const double angle = std::numbers::pi * k / 8;
          ring += (at(y + std::lround(radius * std::sin(angle)),
                      x + std::lround(radius * std::cos(angle))) -
                   base) /
                  16;
        }
        if (ring < 0.06F * height_over) break;
      }
      ++removed;
      const int reach = radius + 1;
      for (std::int64_t yy = std::max<std::int64_t>(0, y - reach);
           yy <= std::min(height - 1, y + reach); ++yy) {
        for (std::int64_t xx = std::max<std::int64_t>(0, x - reach);
             xx <= std::min(width - 1, x + reach); ++xx) {
          if ((yy - y) * (yy - y) + (xx - x) * (xx - x) <= reach * reach) m[yy * width + xx] = 1;
        }
      }
    }
  }
  // Fill from coarse to fine with the mean of what is known (pull-push, Gortler et al. 1996).
  auto known = (1 - mask).unsqueeze(0);
  auto values = picture * known;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> pyramid{{values, known}};
  while (pyramid.back().first.size(1) > 2 && pyramid.back().first.size(2) > 2 &&
         pyramid.size() < 7) {
    const auto& [v, w] = pyramid.back();
    const auto options = F::AvgPool2dFuncOptions(2).ceil_mode(true);
    pyramid.emplace_back(F::avg_pool2d(v.unsqueeze(0), options)[0],
                         F::avg_pool2d(w.unsqueeze(0), options)[0]);
  }
  auto fill = pyramid.back().first / pyramid.back().second.clamp_min(1e-6);
  for (std::size_t level = pyramid.size() - 1; level-- > 0;) {
    const auto& [v, w] = pyramid[level];
    fill =
        F::interpolate(fill.unsqueeze(0), F::InterpolateFuncOptions()
                                              .size(std::vector<std::int64_t>{v.size(1), v.size(2)})
                                              .mode(torch::kBilinear)
                                              .align_corners(false))[0];
    fill = v + fill * (1 - w.clamp(0, 1));
  }
  picture = fill;
  return removed;
}

torch::Tensor turned(const torch::Tensor& x, int turn) {
  auto result = x;
  if ((turn & 1) != 0) result = result.flip(-1);
  if ((turn & 2) != 0) result = result.flip(-2);
  if ((turn & 4) != 0) result = result.transpose(-1, -2);
  return result;
}

namespace {

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

// ---- building ----------------------------------------------------------------------------------

struct CorpusBuilder::Body {
  std::filesystem::path output;
  CorpusOptions options;
  CorpusReport report;
  struct Patch {
    torch::Tensor pixels;  // int16 view of unsigned values
    double structure;
    bool validation, linear;
    std::string source;
  };
  std::vector<Patch> patches;
  nlohmann::json manifest = nlohmann::json::array();
};

CorpusBuilder::CorpusBuilder(std::filesystem::path output, CorpusOptions options)
    : body_(std::make_unique<Body>()) {
  body_->output = std::move(output);
  body_->options = std::move(options);
}
CorpusBuilder::~CorpusBuilder() = default;

void CorpusBuilder::add(const CorpusSource& source) {
  const torch::NoGradGuard no_grad;
  Body& body = *body_;
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
  body.report.stars_removed += stars;
  const bool validation = std::any_of(
      body.options.validation.begin(), body.options.validation.end(),
      [&](const std::string& word) { return source.object.find(word) != std::string::npos; });
  const int side = body.options.patch_px;
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
      body.patches.push_back({(patch * full_scale).round().to(torch::kInt).to(torch::kShort),
                              structure_of(patch), validation, source.linear, source.name});
      ++count;
    }
  }
  body.manifest.push_back({{"name", source.name},
                           {"object", source.object},
                           {"credit", source.credit},
                           {"reduce", source.reduce},
                           {"stars_removed", stars},
                           {"patches", count},
                           {"validation", validation}});
}

void CorpusBuilder::add_corpus(const std::filesystem::path& path) {
  Body& body = *body_;
  for (const bool validation : {false, true}) {
    const CorpusPatches patches = CorpusPatches::load(path, validation);
    for (int i = 0; i < patches.count(); ++i) {
      const auto patch = patches.patch(i);
      body.patches.push_back({(patch * full_scale).round().to(torch::kInt).to(torch::kShort),
                              structure_of(patch), validation, patches.linear(i), path.string()});
    }
  }
  body.options.patch_px = static_cast<int>(body.patches.back().pixels.size(1));
  const auto metadata = read_safetensors_metadata(path);
  const auto manifest = nlohmann::json::parse(metadata.at("manifest"), nullptr, false);
  if (manifest.is_array()) body.manifest = manifest;
}

CorpusReport CorpusBuilder::finish() && {
  Body& body = *body_;
  if (body.patches.empty()) throw Error(ErrorKind::bad_input, "no image gave a usable patch");
  std::stable_sort(body.patches.begin(), body.patches.end(),
                   [](const auto& a, const auto& b) { return a.structure > b.structure; });
  const double patch_megapixels = body.options.patch_px * body.options.patch_px * 1e-6;
  const double bytes_per_pixel = body.options.bits == 8 ? 1.5 : 6;
  double megapixels = body.options.max_megapixels;
  if (body.options.max_megabytes > 0) {
    const double text = static_cast<double>(body.manifest.dump().size()) * 1.1e-6 + 0.02;
    megapixels = std::min(megapixels, (body.options.max_megabytes - text) / bytes_per_pixel);
  }
  const auto keep = static_cast<std::size_t>(std::max(1.0, megapixels / patch_megapixels));
  if (body.patches.size() > keep) body.patches.resize(keep);
  TensorFile file;
  nlohmann::json linear = {{"training", nlohmann::json::array()},
                           {"validation", nlohmann::json::array()}};
  for (const bool validation : {false, true}) {
    std::vector<torch::Tensor> side, colour;
    const char* key = validation ? "validation" : "training";
    for (const auto& patch : body.patches) {
      if (patch.validation != validation) continue;
      if (body.options.bits == 8) {
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
    (validation ? body.report.validation_patches : body.report.training_patches) =
        static_cast<int>(side.size());
  }
  if (body.options.bits == 8 || body.options.max_megabytes > 0) {
    // not the same material as that of the whole corpus
    body.manifest.push_back({{"name", "packed"},
                             {"bits", body.options.bits},
                             {"patches", body.report.training_patches}});
  }
  body.report.manifest_hash = hash_text(body.manifest.dump());
  file.metadata = {{"kind", body.options.bits == 8 ? "limpid corpus 2" : "limpid corpus 1"},
                   {"manifest", body.manifest.dump()},
                   {"manifest_hash", body.report.manifest_hash},
                   {"linear", linear.dump()}};
  write_safetensors(body.output, file);
  return body.report;
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
  bool sound = linear.is_object() && linear[key].is_array() && result.patches_.dim() > 0 &&
               static_cast<std::int64_t>(linear[key].size()) == result.patches_.size(0);
  if (packed) {
    result.colour_ = file.tensors[std::string(key) + "_colour"];
    sound = sound && result.patches_.dim() == 3 && result.colour_.defined() &&
            result.colour_.dim() == 4 && result.patches_.scalar_type() == torch::kByte &&
            result.colour_.scalar_type() == torch::kByte &&
            result.colour_.size(0) == result.patches_.size(0) && result.colour_.size(1) == 2 &&
            result.colour_.numel() > 0;
  } else {
    sound = sound && result.patches_.dim() == 4 && result.patches_.scalar_type() == torch::kShort;
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

torch::Tensor draw_procedural(Random& random, int height, int width) {
  const auto fy = torch::fft::fftfreq(height, torch::kFloat).unsqueeze(1),
             fx = torch::fft::rfftfreq(width, torch::kFloat).unsqueeze(0);
  const auto k = (fy.square() + fx.square()).sqrt();
  const double outer = 1.0 / random.log_uniform(40, 400);
  const auto turbulence = [&](double slope) {
    auto white = torch::empty({height, width});
    float* data = white.data_ptr<float>();
    for (std::int64_t i = 0; i < white.numel(); ++i) data[i] = static_cast<float>(random.normal());
    const auto field =
        torch::fft::irfft2(torch::fft::rfft2(white) * (k.square() + outer * outer).pow(slope / 2),
                           at::IntArrayRef({height, width}));
    return (field - field.mean()) / field.std().clamp_min(1e-9);
  };
  const double slope = random.uniform(-1.9, -1.2);
  const auto base = turbulence(slope);
  const double contrast = random.uniform(0.3, 1.3);
  auto light = torch::empty({3, height, width});
  const double mix = random.uniform(0.0, 0.5);
  const auto second = turbulence(slope);
  for (int c = 0; c < 3; ++c) {
    const double w = mix * (c - 1);
    light[c] = torch::exp(contrast * (base + w * second)) * random.uniform(0.4, 1.0);
  }
  if (random.chance(0.5)) {  // dust in front
    const auto depth =
        torch::exp(turbulence(random.uniform(-1.9, -1.3)) * random.uniform(0.5, 1.2));
    const double reddening = random.uniform(1.0, 1.6);
    for (int c = 0; c < 3; ++c) light[c] *= torch::exp(-0.4 * std::pow(reddening, c) * depth);
  }
  if (random.chance(0.35)) light *= 0.05;
  const auto ys = torch::arange(height).to(torch::kFloat).unsqueeze(1),
             xs = torch::arange(width).to(torch::kFloat).unsqueeze(0);
  const int galaxies = random.chance(0.4) ? 1 + random.index(12) : 0;
  for (int i = 0; i < galaxies; ++i) {
    const double n = random.uniform(0.6, 4.0), radius = random.log_uniform(1.0, 30.0),
                 q = random.uniform(0.2, 1.0);
    const double angle = random.uniform(0, std::numbers::pi), cy = random.uniform(0, height),
                 cx = random.uniform(0, width);
    const auto u = ((xs - cx) * std::cos(angle) + (ys - cy) * std::sin(angle));
    const auto v = (-(xs - cx) * std::sin(angle) + (ys - cy) * std::cos(angle)) / q;
    // Sersic 1963; softened by half a pixel so that steep centres stay resolved
    const auto r = (u.square() + v.square() + 0.25).sqrt() / radius;
    const auto profile = torch::exp(-(2 * n - 0.33) * (r.pow(1 / n) - 1)).clamp_max(200.0);
    const double brightness = random.log_uniform(0.02, 1.0) / 3, colour = random.uniform(-0.5, 0.5);
    for (int c = 0; c < 3; ++c) light[c] += profile * brightness * std::exp(colour * (1 - c));
  }
  return light / light.quantile(0.995).clamp_min(1e-9);
}

}  // namespace limpid
