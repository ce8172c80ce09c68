#include "nn/unet_on_cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cassert>

#include "nn/architecture.h"
#include "nn/winograd.h"

namespace limpid {
namespace {

using Parameters = std::map<std::string, torch::Tensor>;

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

/// Calls body(y, scratch) for every row, with room for so many values.
template <typename Value, typename Body>
void for_each_row(Range rows, std::int64_t scratch_values, const Body& body) {
  at::parallel_for(rows.begin, rows.end, 1, [&](std::int64_t begin, std::int64_t end) {
    const auto scratch =
        std::make_unique_for_overwrite<Value[]>(static_cast<std::size_t>(scratch_values));
    for (std::int64_t y = begin; y < end; ++y) body(y, scratch.get());
  });
}

/// The blocks from this place on.
std::vector<Plane> from_block(std::vector<Plane> planes, std::int64_t y, std::int64_t x) {
  for (Plane& plane : planes) plane.first += (y * plane.stride + x) * block_px;
  return planes;
}

template <typename Value>
class Unet : public UnetOnCpu {
 public:
  Unet(const Parameters& parameters, const std::vector<int>& blocks, bool narrow, Arithmetic by);
  [[nodiscard]] torch::Tensor run(const std::vector<Plane>& planes, Size size, Rect wanted,
                                  const torch::Tensor& stem_shift,
                                  const torch::Tensor& down_shift) const override;

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
                       Places wanted, const Finish<Value>& finish);
  template <typename In, typename Out>
  static void convolve(const Winograd<Value>& by, const Activations<In>& from, Places wanted,
                       Activations<Out>& to, Then then);
  void run_blocks(const std::vector<ResidualBlock>& blocks, Places wanted, Grid& x) const;

  bool narrow_;
  Layer stem_, down_;
  std::vector<Layer> up_;  ///< to the four places of the finer level, row by row
  Convolution<Value, float> head_;
  std::vector<ResidualBlock> encoder_, middle_, decoder_;
};

template <typename Value>
Unet<Value>::Unet(const Parameters& parameters, const std::vector<int>& blocks, bool narrow,
                  Arithmetic by)
    : narrow_(narrow),
      stem_(parameters.at("stem.weight"), parameters.at("stem.bias"), 1, narrow, by),
      down_(parameters.at("down.weight"), parameters.at("down.bias"), 2, narrow, by),
      head_(parameters.at("head.weight"), parameters.at("head.bias"), 1, false, by) {
  for (std::int64_t place = 0; place < 4; ++place) {
    // a pixel shuffle takes the four places of one channel from neighbouring ones
    const auto of_place = [&](const char* name) {
      return parameters.at(name).unflatten(0, at::IntArrayRef({-1, 4})).select(1, place);
    };
    up_.emplace_back(of_place("up.weight"), of_place("up.bias"), 1, narrow, by);
  }
  const auto read = [&](const std::string& name, int count, std::vector<ResidualBlock>& into) {
    const auto layer = [&](const std::string& of) {
      return Winograd<Value>(parameters.at(of + ".weight"), parameters.at(of + ".bias"), narrow, by);
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
                           Places wanted, const Finish<Value>& finish) {
  for_each_row<Value>(wanted.y, 0, [&](std::int64_t y, Value*) {
    by.row(from.at(y * stride, wanted.x.begin * stride), from.row_step(), wanted.x.length(),
           to.at(y, wanted.x.begin), to.channels(), finish);
  });
}

template <typename Value>
template <typename In, typename Out>
void Unet<Value>::convolve(const Winograd<Value>& by, const Activations<In>& from, Places wanted,
                           Activations<Out>& to, Then then) {
  at::parallel_for(wanted.y.begin / 2, (wanted.y.end + 1) / 2, 1,
                   [&](std::int64_t begin, std::int64_t end) {
                     const auto scratch = torch::empty(
                         static_cast<std::int64_t>(by.scratch_bytes()), torch::kUInt8);
                     for (std::int64_t y = begin; y < end; ++y) {
                       by.two_rows(from, 2 * y, wanted, to, then,
                                   reinterpret_cast<std::byte*>(scratch.data_ptr<std::uint8_t>()));
                     }
                   });
}

template <typename Value>
void Unet<Value>::run_blocks(const std::vector<ResidualBlock>& blocks, Places wanted,
                             Grid& x) const {
  if (blocks.empty()) return;
  Activations<float> between(x.height(), x.width(), x.channels());  // rounded when it is spread
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto later = 2 * static_cast<std::int64_t>(blocks.size() - 1 - i);
    convolve(blocks[i].first, x, seen_by(wanted, later + 1, x), between, {.rectified = true});
    convolve(blocks[i].second, between, seen_by(wanted, later, x), x,
             {.rounded = narrow_, .added = true});
  }
}

template <typename Value>
torch::Tensor Unet<Value>::run(const std::vector<Plane>& planes, Size size, Rect wanted,
                               const torch::Tensor& stem_shift,
                               const torch::Tensor& down_shift) const {
  const auto stem_extra = stem_shift.to(torch::kFloat).contiguous(),
             down_extra = down_shift.to(torch::kFloat).contiguous();
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

  const auto per_place = static_cast<std::int64_t>(planes.size()) * block_area;
  const auto seen_planes = from_block(planes, 0, stemmed.x.begin);
  const auto look = [&](std::int64_t y, Value* seen) {
    compress_block_row(seen_planes, stemmed.x.length() * block_px, y, narrow_, seen);
    stem_.row(seen, 0, stemmed.x.length(), local.at(y, stemmed.x.begin), local.channels(),
              {.shift = stem_extra.template data_ptr<float>(), .rectified = true});
  };
  for_each_row<Value>(stemmed.y, stemmed.x.length() * per_place, look);
  run_blocks(encoder_, encoded, local);
  convolve(down_, local, 2, wide, lowered,
           {.shift = down_extra.template data_ptr<float>(), .rectified = true});
  run_blocks(middle_, raised, wide);
  for_each_row<Value>(doubled(raised).y, 0, [&](std::int64_t y, Value*) {
    for (std::int64_t x = 0; x < 2; ++x) {
      Value* const to = local.at(y, 2 * raised.x.begin + x);
      up_[static_cast<std::size_t>(2 * (y % 2) + x)].row(wide.at(y / 2, raised.x.begin), 0,
                                                         raised.x.length(), to,
                                                         2 * local.channels(), {.residual = to});
    }
  });
  run_blocks(decoder_, mixed, local);
  const auto mixed_planes = from_block(planes, mixed.y.begin, mixed.x.begin);
  auto result = torch::empty({3, wanted.height, wanted.width});
  const std::int64_t bent_values = mixed.x.length() * local.channels();
  const auto mix = [&](std::int64_t y, Value* bent) {
    auto* const told = reinterpret_cast<float*>(bent + bent_values);
    std::transform(local.at(y, mixed.x.begin), local.at(y, mixed.x.end), bent,
                   [](Value value) { return value < Value(0) ? Value(0) : value; });
    head_.row(bent, 0, mixed.x.length(), told, head_.outputs());
    mix_block_row(mixed_planes, wanted.height, wanted.width, y - mixed.y.begin, told, guide_count,
                  result.template data_ptr<float>());
  };
  for_each_row<Value>(mixed.y, bent_values + mixed.x.length() * head_.outputs() * (sizeof(float)/sizeof(Value)), mix);
  return result;
}

}  // namespace

std::unique_ptr<UnetOnCpu> make_unet_on_cpu(const Parameters& parameters,
                                            const std::vector<int>& blocks, bool narrow,
                                            Arithmetic by) {
  assert(by != Arithmetic::libtorch);
  if (by == Arithmetic::bfloats)
    return std::make_unique<Unet<c10::BFloat16>>(parameters, blocks, narrow, by);
  return std::make_unique<Unet<float>>(parameters, blocks, narrow, by);
}

}  // namespace limpid
