#include "nn/safetensors.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include <limpid/error.h>

namespace limpid {
namespace {

using nlohmann::json;

constexpr std::uint64_t length_bytes = 8;
constexpr std::uint64_t max_header_bytes = 16U << 20U;
constexpr std::uint64_t max_elements = 1ULL << 40U;
constexpr std::size_t max_dimensions = 16;

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 8> element_bytes{{{"F32", 4},
                                                                                   {"F16", 2},
                                                                                   {"BF16", 2},
                                                                                   {"F64", 8},
                                                                                   {"I64", 8},
                                                                                   {"I32", 4},
                                                                                   {"I16", 2},
                                                                                   {"U8", 1}}};

/// Reads a header, and knows how to complain about it.
class HeaderReader {
 public:
  explicit HeaderReader(const std::filesystem::path& path) : path_(path) {
    std::error_code failure;
    const std::uint64_t size = std::filesystem::file_size(path, failure);
    if (failure) {
      throw Error(ErrorKind::bad_model, path.string() + ": cannot be read: " + failure.message());
    }
    std::ifstream stream(path, std::ios::binary);
    std::uint64_t header_bytes = 0;
    if (!stream.read(reinterpret_cast<char*>(&header_bytes), length_bytes)) reject("too short");
    if (header_bytes < 2 || header_bytes > max_header_bytes || header_bytes > size - length_bytes) {
      reject("its header length is nonsense");
    }
    std::string text(header_bytes, '\0');
    if (!stream.read(text.data(), static_cast<std::streamsize>(header_bytes))) {
      reject("truncated header");
    }
    header_ = json::parse(text, nullptr, false);
    if (!header_.is_object()) reject("its header is not a JSON object");
    data_start_ = length_bytes + header_bytes;
    data_bytes_ = size - data_start_;
  }

  [[nodiscard]] std::map<std::string, std::string> metadata() const {
    std::map<std::string, std::string> result;
    const auto entry = header_.find("__metadata__");
    if (entry == header_.end() || !entry->is_object()) return result;
    for (const auto& [key, value] : entry->items()) {
      if (value.is_string()) result[key] = value.get<std::string>();
    }
    return result;
  }

  [[nodiscard]] std::map<std::string, TensorPlace> places() const {
    std::map<std::string, TensorPlace> result;
    // Tensors that overlapped could claim together far more memory than the file has bytes.
    std::uint64_t unclaimed = data_bytes_;
    for (const auto& [name, entry] : header_.items()) {
      if (name == "__metadata__") continue;
      TensorPlace place = place_of("tensor '" + name + "'", entry);
      if (place.bytes > unclaimed) reject("its tensors overlap");
      unclaimed -= place.bytes;
      result.emplace(name, std::move(place));
    }
    return result;
  }

 private:
  [[noreturn]] void reject(const std::string& what) const {
    throw Error(ErrorKind::bad_model, path_.string() + ": not a usable safetensors file: " + what);
  }

  [[nodiscard]] TensorPlace place_of(const std::string& title, const json& entry) const {
    const auto has = [&](const char* key, json::value_t type) {
      return entry.contains(key) && entry[key].type() == type;
    };
    if (!entry.is_object() || !has("dtype", json::value_t::string) ||
        !has("shape", json::value_t::array) || !has("data_offsets", json::value_t::array)) {
      reject(title + " is not described");
    }
    TensorPlace place;
    place.type = entry["dtype"].get<std::string>();
    const std::uint64_t element = safetensors_element_bytes(place.type);
    if (element == 0) reject(title + " has an unknown type");
    place.shape = shape_of(title, entry["shape"]);
    place.bytes = element;
    for (const std::int64_t side : place.shape) place.bytes *= static_cast<std::uint64_t>(side);
    const json& offsets = entry["data_offsets"];
    if (offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned()) {
      reject(title + " has nonsense offsets");
    }
    const auto begin = offsets[0].get<std::uint64_t>();
    const auto end = offsets[1].get<std::uint64_t>();
    if (begin > end || end > data_bytes_ || end - begin != place.bytes) {
      reject(title + " lies outside the file");
    }
    place.position = data_start_ + begin;
    return place;
  }

  /// Also of a tensor without elements no side is longer than a tensor can be.
  [[nodiscard]] std::vector<std::int64_t> shape_of(const std::string& title,
                                                   const json& sides) const {
    if (sides.size() > max_dimensions) reject(title + " has too many dimensions");
    std::vector<std::int64_t> shape;
    std::uint64_t product = 1;
    for (const auto& side : sides) {
      if (!side.is_number_unsigned()) reject(title + " has a nonsense shape");
      const auto length = side.get<std::uint64_t>();
      if (product > max_elements / std::max<std::uint64_t>(length, 1)) {
        reject(title + " is too large");
      }
      product *= std::max<std::uint64_t>(length, 1);
      shape.push_back(static_cast<std::int64_t>(length));
    }
    return shape;
  }

  std::filesystem::path path_;
  json header_;
  std::uint64_t data_start_ = 0, data_bytes_ = 0;
};

}  // namespace

std::uint64_t safetensors_element_bytes(const std::string& type) {
  const auto found =
      std::ranges::find(element_bytes, type, [](const auto& entry) { return entry.first; });
  return found == element_bytes.end() ? 0 : found->second;
}

SafetensorsHeader read_safetensors_header(const std::filesystem::path& path) {
  const HeaderReader reader(path);
  return {reader.metadata(), reader.places()};
}

void read_tensor(std::istream& stream, const std::filesystem::path& path, const TensorPlace& place,
                 void* to) {
  stream.seekg(static_cast<std::streamoff>(place.position));
  if (!stream.read(static_cast<char*>(to), static_cast<std::streamsize>(place.bytes))) {
    throw Error(ErrorKind::bad_model, path.string() + ": not a usable safetensors file: truncated");
  }
}

}  // namespace limpid
