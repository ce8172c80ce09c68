#include "nn/unet_on_cpu.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <string>

#include "core/parallel.h"
#include "nn/winograd.h"

namespace limpid {
namespace {

/// What a convolution of side 3 sees that is applied `times` times, of what `grid` has.
template <typename Value>
Places seen_by(Places places, std::int64_t times, const Activations<Value>& grid) {
  const auto along = [times](Range range, std::int64_t length) {
    return Range{std::max<std::int64_t>(range.begin - times, 0),
                 std::min(range.end + times, length)};
  };
  return {along(places.y, grid.height()), along(places.x, grid.width())};
}
/// The same places on the coarser and on the finer level.
Places halved(Places places) {
  const auto half = [](Range range) { return Range{range.begin / 2, (range.end + 1) / 2}; };
  return {half(places.y), half(places.x)};
}
Places doubled(Places places) {
  const auto twice = [](Range range) { return Range{2 * range.begin, 2 * range.end}; };
  return {twice(places.y), twice(places.x)};
}

/// Calls body(y, scratch) for every row, with memory that begins on a cache line.
template <typename Body>
void for_each_row(Range rows, std::size_t scratch_bytes, int threads, const Body& body) {
  const auto parts = static_cast<int>(std::min<std::int64_t>(thread_count(threads), rows.length()));
  parallel_for(parts, threads, [&](int part) {
    const auto scratch = allocate_aligned<std::byte>(scratch_bytes);
    const auto begin = [&](int of) { return rows.begin + rows.length() * of / parts; };
    for (std::int64_t y = begin(part); y < begin(part + 1); ++y) body(y, scratch.get());
  });
}

/// The blocks from this place on.
std::vector<Plane> from_block(std::vector<Plane> planes, std::int64_t y, std::int64_t x) {
  for (Plane& plane : planes) plane.first += (y * plane.stride + x) * block_px;
  return planes;
}

Parameters rounded(Parameters parameters) {
  for (auto& [name, parameter] : parameters)
    std::ranges::transform(parameter.values, parameter.values.begin(), rounded_to_bfloat16);
  return parameters;
}

/// Of a pixel shuffle's layer: it takes the four places of one channel from neighbouring ones.
Parameter of_place(const Parameter& all, std::int64_t place) {
  Parameter some{all.shape, {}};
  some.shape[0] /= 4;
  const std::int64_t each = static_cast<std::int64_t>(all.values.size()) / all.shape[0];
  for (std::int64_t output = place; output < all.shape[0]; output += 4) {
    const auto first = all.values.begin() + output * each;
    some.values.insert(some.values.end(), first, first + each);
  }
  return some;
}

/// What the controls add to the first layer of a level.
class Shift {
 public:
  Shift(const Parameters& parameters, const std::string& name, bool narrow)
      : weight_(parameters.at(name + ".weight")),
        bias_(parameters.at(name + ".bias")),
        narrow_(narrow) {}
  /// One value a channel.
  [[nodiscard]] std::vector<float> of(std::span<const float> controls) const {
    const auto value = [this](float x) { return narrow_ ? rounded_to_bfloat16(x) : x; };
    std::vector<float> shift(bias_.values.size());
    const float* weight = weight_.values.data();
    for (std::size_t i = 0; i < shift.size(); ++i) {
      float sum = 0;
      for (const float control : controls) sum = std::fma(value(control), *weight++, sum);
      shift[i] = value(sum + bias_.values[i]);
    }
    return shift;
  }

 private:
  Parameter weight_, bias_;
  bool narrow_;
};

template <typename Value>
class Unet : public UnetOnCpu {
 public:
  Unet(const Parameters& parameters, const std::vector<int>& blocks, bool narrow, Arithmetic by);
  [[nodiscard]] Image run(const std::vector<Plane>& planes, Size size, Rect wanted,
                          std::span<const float> controls, int threads) const override;

 private:
  using Layer = Convolution<Value>;
  using Grid = Activations<Value>;
  struct ResidualBlock {
    Winograd<Value> first, second;
  };
  static Places seen_by_blocks(const std::vector<ResidualBlock>& blocks, Places wanted,
                               const Grid& x) {
    return seen_by(wanted, 2 * static_cast<std::int64_t>(blocks.size()), x);
  }
  static void convolve(const Layer& by, const Grid& from, std::int64_t stride, Grid& to,
                       Places wanted, int threads, const Finish<Value>& finish);
  template <typename In, typename Out>
  static void convolve(const Winograd<Value>& by, const Activations<In>& from, Activations<Out>& to,
                       Places wanted, int threads, Then then);
  void run_blocks(const std::vector<ResidualBlock>& blocks, Places wanted, int threads,
                  Grid& x) const;

  bool narrow_;
  Shift stem_shift_, down_shift_;
  Layer stem_, down_;
  std::vector<Layer> up_;  ///< to the four places of the finer level, row by row
  Convolution<Value, float> head_;
  std::vector<ResidualBlock> encoder_, middle_, decoder_;
};

template <typename Value>
Unet<Value>::Unet(const Parameters& parameters, const std::vector<int>& blocks, bool narrow,
                  Arithmetic by)
    : narrow_(narrow),
      stem_shift_(parameters, "stem_controls", narrow),
      down_shift_(parameters, "down_controls", narrow),
      stem_(parameters.at("stem.weight"), parameters.at("stem.bias"), 1, narrow, by),
      down_(parameters.at("down.weight"), parameters.at("down.bias"), 2, narrow, by),
      head_(parameters.at("head.weight"), parameters.at("head.bias"), 1, false, by) {
  for (std::int64_t place = 0; place < 4; ++place) {
    up_.emplace_back(of_place(parameters.at("up.weight"), place),
                     of_place(parameters.at("up.bias"), place), 1, narrow, by);
  }
  const auto read = [&](const std::string& name, int count, std::vector<ResidualBlock>& into) {
    const auto layer = [&](const std::string& of) {
      return Winograd<Value>(parameters.at(of + ".weight"), parameters.at(of + ".bias"), narrow,
                             by);
    };
    for (int i = 0; i < count; ++i) {
      const std::string block = name + '.' + std::to_string(i);
      into.push_back({layer(block + ".first"), layer(block + ".second")});
    }
  };
  read("encoder", blocks.at(0), encoder_);
  read("middle", blocks.at(1), middle_);
  read("decoder", blocks.at(2), decoder_);
}

template <typename Value>
void Unet<Value>::convolve(const Layer& by, const Grid& from, std::int64_t stride, Grid& to,
                           Places wanted, int threads, const Finish<Value>& finish) {
  for_each_row(wanted.y, 0, threads, [&](std::int64_t y, std::byte*) {
    by.row(from.at(y * stride, wanted.x.begin * stride), from.row_step(), wanted.x.length(),
           to.at(y, wanted.x.begin), to.channels(), finish);
  });
}

template <typename Value>
template <typename In, typename Out>
void Unet<Value>::convolve(const Winograd<Value>& by, const Activations<In>& from,
                           Activations<Out>& to, Places wanted, int threads, Then then) {
  for_each_row(halved(wanted).y, by.scratch_bytes(), threads,
               [&](std::int64_t y, std::byte* scratch) {
                 by.two_rows(from, 2 * y, wanted, to, then, scratch);
               });
}

template <typename Value>
void Unet<Value>::run_blocks(const std::vector<ResidualBlock>& blocks, Places wanted, int threads,
                             Grid& x) const {
  if (blocks.empty()) return;
  Activations<float> between(x.height(), x.width(), x.channels());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto later = 2 * static_cast<std::int64_t>(blocks.size() - 1 - i);
    convolve(blocks[i].first, x, between, seen_by(wanted, later + 1, x), threads,
             {.rectified = true});
    convolve(blocks[i].second, between, x, seen_by(wanted, later, x), threads,
             {.rounded = narrow_, .added = true});
  }
}

template <typename Value>
Image Unet<Value>::run(const std::vector<Plane>& planes, Size size, Rect wanted,
                       std::span<const float> controls, int threads) const {
  const std::vector<float> stem_shift = stem_shift_.of(controls),
                           down_shift = down_shift_.of(controls);
  Grid local(size.height / block_px, size.width / block_px, stem_.outputs());
  Grid wide(local.height() / 2, local.width() / 2, down_.outputs());

  // what of each level is seen by what is wanted, from the last layer to the first
  const Places mixed{{wanted.y / block_px, (wanted.y + wanted.height) / block_px},
                     {wanted.x / block_px, (wanted.x + wanted.width) / block_px}};
  const Places decoded = seen_by_blocks(decoder_, mixed, local);
  const Places raised = halved(decoded);
  const Places lowered = seen_by_blocks(middle_, raised, wide);
  const Places encoded = seen_by(doubled(lowered), 1, local);
  const Places stemmed = seen_by_blocks(encoder_, encoded, local);

  const std::size_t per_place = planes.size() * block_area;
  const auto seen_planes = from_block(planes, 0, stemmed.x.begin);
  const auto look = [&](std::int64_t y, std::byte* scratch) {
    auto* const seen = reinterpret_cast<Value*>(scratch);  // NOLINT(*-reinterpret-cast)
    compress_block_row(seen_planes, stemmed.x.length() * block_px, y, narrow_, seen);
    stem_.row(seen, 0, stemmed.x.length(), local.at(y, stemmed.x.begin), local.channels(),
              {.shift = stem_shift.data(), .rectified = true});
  };
  for_each_row(stemmed.y, static_cast<std::size_t>(stemmed.x.length()) * per_place * sizeof(Value),
               threads, look);
  run_blocks(encoder_, encoded, threads, local);
  convolve(down_, local, 2, wide, lowered, threads,
           {.shift = down_shift.data(), .rectified = true});
  run_blocks(middle_, raised, threads, wide);
  for_each_row(doubled(raised).y, 0, threads, [&](std::int64_t y, std::byte*) {
    for (std::int64_t x = 0; x < 2; ++x) {
      Value* const to = local.at(y, 2 * raised.x.begin + x);
      up_[static_cast<std::size_t>(2 * (y % 2) + x)].row(wide.at(y / 2, raised.x.begin), 0,
                                                         raised.x.length(), to,
                                                         2 * local.channels(), {.residual = to});
    }
  });
  run_blocks(decoder_, mixed, threads, local);
  const auto mixed_planes = from_block(planes, mixed.y.begin, mixed.x.begin);
  Image result = Image::unset(3, wanted.size());
  const auto blocks = static_cast<std::size_t>(mixed.x.length());
  const std::size_t told_bytes = blocks * static_cast<std::size_t>(head_.outputs()) * sizeof(float);
  const auto mix = [&](std::int64_t y, std::byte* scratch) {
    auto* const told = reinterpret_cast<float*>(scratch);  // NOLINT(*-reinterpret-cast)
    auto* const bent =
        reinterpret_cast<Value*>(scratch + told_bytes);  // NOLINT(*-reinterpret-cast)
    std::transform(local.at(y, mixed.x.begin), local.at(y, mixed.x.end), bent,
                   [](Value value) { return value < Value(0) ? Value(0) : value; });
    head_.row(bent, 0, mixed.x.length(), told, head_.outputs());
    mix_block_row(mixed_planes, wanted.height, wanted.width, y - mixed.y.begin, told, guide_count,
                  result.pixels().data());
  };
  for_each_row(mixed.y,
               told_bytes + blocks * static_cast<std::size_t>(local.channels()) * sizeof(Value),
               threads, mix);
  return result;
}

}  // namespace

std::unique_ptr<UnetOnCpu> make_unet_on_cpu(const Parameters& parameters,
                                            const std::vector<int>& blocks, bool narrow,
                                            Arithmetic by) {
  assert(by != Arithmetic::libtorch);
  const auto make = [&](const Parameters& kept) -> std::unique_ptr<UnetOnCpu> {
    if (by == Arithmetic::bfloats)
      return std::make_unique<Unet<BFloat16>>(kept, blocks, narrow, by);
    return std::make_unique<Unet<float>>(kept, blocks, narrow, by);
  };
  return narrow ? make(rounded(parameters)) : make(parameters);
}

}  // namespace limpid
