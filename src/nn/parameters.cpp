#include "nn/parameters.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <limits>

#include <limpid/error.h>

#include "nn/bfloat16.h"

namespace limpid {
namespace {

/// IEEE 754 binary16: 5 bits of exponent, 10 of fraction.
float from_half(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16U, exponent = half >> 10U & 0x1fU,
                      fraction = half & 0x3ffU;
  if (exponent == 0) {
    const float size = std::ldexp(static_cast<float>(fraction), -24);
    return sign == 0 ? size : -size;
  }
  const std::uint32_t wide = exponent == 0x1f ? 0xffU : exponent + (127 - 15);
  return std::bit_cast<float>(sign | wide << 23U | fraction << 13U);
}

/// `Stored` values that `convert` makes floats of.
template <typename Stored, typename Convert>
std::vector<float> converted(const std::vector<std::byte>& bytes, const Convert& convert) {
  std::vector<float> values(bytes.size() / sizeof(Stored));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, &bytes[i * sizeof stored], sizeof stored);
    values[i] = static_cast<float>(convert(stored));
  }
  return values;
}
template <typename Stored>
std::vector<float> converted(const std::vector<std::byte>& bytes) {
  return converted<Stored>(bytes, [](Stored value) { return value; });
}

std::vector<float> floats_of(const std::string& type, const std::vector<std::byte>& bytes) {
  if (type == "F16") return converted<std::uint16_t>(bytes, from_half);
  if (type == "BF16") return converted<BFloat16>(bytes);
  if (type == "F32") return converted<float>(bytes);
  if (type == "F64") return converted<double>(bytes);
  if (type == "I64") return converted<std::int64_t>(bytes);
  if (type == "I32") return converted<std::int32_t>(bytes);
  if (type == "I16") return converted<std::int16_t>(bytes);
  return converted<std::uint8_t>(bytes);
}

/// Puts `count` zeros before the `at`th of a dimension's entries, where it lacks so many.
void insert_zeros(Parameters& parameters, const std::string& name, std::size_t dimension,
                  std::int64_t complete, std::int64_t at, std::int64_t count) {
  const auto entry = parameters.find(name);
  if (entry == parameters.end() || entry->second.shape.size() <= dimension) return;
  Parameter& old = entry->second;
  if (old.shape[dimension] != complete - count) return;
  std::int64_t inner = 1;
  for (std::size_t d = dimension + 1; d < old.shape.size(); ++d) inner *= old.shape[d];
  Parameter made{old.shape, {}};
  made.shape[dimension] = complete;
  const auto line = static_cast<std::size_t>((complete - count) * inner);
  for (std::size_t begin = 0; begin + line <= old.values.size() && line > 0; begin += line) {
    const auto first = old.values.begin() + static_cast<std::ptrdiff_t>(begin);
    made.values.insert(made.values.end(), first, first + at * inner);
    made.values.insert(made.values.end(), static_cast<std::size_t>(count * inner), 0.0F);
    made.values.insert(made.values.end(), first + at * inner,
                       first + static_cast<std::ptrdiff_t>(line));
  }
  old = std::move(made);
}

}  // namespace

Parameters read_parameters(const std::filesystem::path& path, const SafetensorsHeader& header) {
  std::ifstream stream(path, std::ios::binary);
  Parameters parameters;
  for (const auto& [name, place] : header.tensors) {
    std::vector<std::byte> bytes(place.bytes);
    read_tensor(stream, path, place, bytes.data());
    parameters[name] = {place.shape, floats_of(place.type, bytes)};
  }
  return parameters;
}

ParameterShapes guided_unet_shapes(const ArchitectureOptions& options) {
  const auto within = [](const std::vector<int>& values, int least, int most) {
    return std::ranges::all_of(values, [&](int n) { return n >= least && n <= most; });
  };
  if (options.widths.size() != 2 || options.blocks.size() != 3 ||
      !within(options.widths, 1, 4096) || !within(options.blocks, 0, 64)) {
    throw Error(ErrorKind::bad_model, "guided_unet needs two widths and three block counts");
  }
  const std::int64_t fine = options.widths[0], coarse = options.widths[1], area = block_area;
  ParameterShapes shapes;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> weight) {
    shapes[name + ".bias"] = {weight.front()};
    shapes[name + ".weight"] = std::move(weight);
  };
  add("stem", {fine, plane_count * area, 1, 1});
  add("stem_controls", {fine, control_count});
  add("down", {coarse, fine, 3, 3});
  add("down_controls", {coarse, control_count});
  add("up", {4 * fine, coarse, 1, 1});
  add("head", {(3 * guide_count + 3) * area, fine, 1, 1});
  const auto add_blocks = [&](const std::string& name, int count, std::int64_t width) {
    for (int i = 0; i < count; ++i) {
      for (const char* layer : {".first", ".second"})
        add(name + '.' + std::to_string(i) + layer, {width, width, 3, 3});
    }
  };
  add_blocks("encoder", options.blocks[0], fine);
  add_blocks("middle", options.blocks[1], coarse);
  add_blocks("decoder", options.blocks[2], fine);
  return shapes;
}

void check_weight(const std::filesystem::path& path, const std::string& name, bool of_its_shape,
                  bool finite) {
  const auto reject = [&](const std::string& what) {
    throw Error(ErrorKind::bad_model, path.string() + ": the weight '" + name + "' is " + what);
  };
  if (!of_its_shape) reject("missing or of another shape than its description says");
  if (!finite) reject("not finite");
}

void check_parameters(const Parameters& parameters, const ParameterShapes& shapes,
                      const std::filesystem::path& path) {
  for (const auto& [name, shape] : shapes) {
    const auto entry = parameters.find(name);
    const bool of_its_shape = entry != parameters.end() && entry->second.shape == shape;
    check_weight(path, name, of_its_shape,
                 of_its_shape && std::ranges::all_of(entry->second.values, [](float value) {
                   return std::isfinite(value);
                 }));
  }
}

void add_missing_plane(Parameters& parameters) {
  constexpr std::int64_t area = block_area, plane = 3 * area;  // of all colours
  // the network sees the tile first, and answers with a share of each guide plane, then the rest
  insert_zeros(parameters, "stem.weight", 1, plane_count * area, (1 + newest_guide) * plane, plane);
  for (const char* name : {"head.weight", "head.bias"})
    insert_zeros(parameters, name, 0, (guide_count + 1) * plane, newest_guide * plane, plane);
}

}  // namespace limpid
