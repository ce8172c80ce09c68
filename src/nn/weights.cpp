#include "nn/weights.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include <limpid/error.h>

namespace limpid {
namespace {

using nlohmann::json;

constexpr std::uint64_t max_header_bytes = 16U << 20U;
constexpr std::uint64_t max_elements = 1ULL << 40U;

struct Kind {
  const char* name;
  torch::ScalarType type;
  std::uint64_t bytes;
};
constexpr std::array<Kind, 8> kinds{{{"F32", torch::kFloat, 4},
                                     {"F16", torch::kHalf, 2},
                                     {"BF16", torch::kBFloat16, 2},
                                     {"F64", torch::kDouble, 8},
                                     {"I64", torch::kLong, 8},
                                     {"I32", torch::kInt, 4},
                                     {"I16", torch::kShort, 2},
                                     {"U8", torch::kByte, 1}}};

[[noreturn]] void damaged(const std::filesystem::path& path, const std::string& what) {
  throw Error(ErrorKind::bad_model, path.string() + ": not a usable weights file: " + what);
}

struct Opened {
  std::ifstream stream;
  json header;
  std::uint64_t data_start = 0, data_bytes = 0;
};

Opened open(const std::filesystem::path& path) {
  Opened file;
  std::error_code failure;
  const std::uint64_t size = std::filesystem::file_size(path, failure);
  if (failure)
    throw Error(ErrorKind::bad_model, path.string() + ": cannot be read: " + failure.message());
  file.stream.open(path, std::ios::binary);
  std::uint64_t header_bytes = 0;
  if (!file.stream.read(reinterpret_cast<char*>(&header_bytes), 8)) damaged(path, "too short");
  if (header_bytes < 2 || header_bytes > max_header_bytes || header_bytes > size - 8) {
    damaged(path, "its header length is nonsense");
  }
  std::string text(header_bytes, '\0');
  if (!file.stream.read(text.data(), static_cast<std::streamsize>(header_bytes))) {
    damaged(path, "truncated header");
  }
  file.header = json::parse(text, nullptr, false);
  if (!file.header.is_object()) damaged(path, "its header is not a JSON object");
  file.data_start = 8 + header_bytes;
  file.data_bytes = size - file.data_start;
  return file;
}

std::map<std::string, std::string> metadata_of(const json& header) {
  std::map<std::string, std::string> result;
  const auto entry = header.find("__metadata__");
  if (entry != header.end() && entry->is_object()) {
    for (const auto& [key, value] : entry->items()) {
      if (value.is_string()) result[key] = value.get<std::string>();
    }
  }
  return result;
}

}  // namespace

std::map<std::string, std::string> read_safetensors_metadata(const std::filesystem::path& path) {
  return metadata_of(open(path).header);
}

TensorFile read_safetensors(const std::filesystem::path& path) {
  Opened file = open(path);
  TensorFile result;
  result.metadata = metadata_of(file.header);
  for (const auto& [name, entry] : file.header.items()) {
    if (name == "__metadata__") continue;
    if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
        !entry.contains("shape") || !entry["shape"].is_array() || !entry.contains("data_offsets") ||
        !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2) {
      damaged(path, "tensor '" + name + "' is not described");
    }
    const Kind* kind = nullptr;
    for (const Kind& k : kinds) {
      if (entry["dtype"].get<std::string>() == k.name) kind = &k;
    }
    if (kind == nullptr) damaged(path, "tensor '" + name + "' has an unknown type");
    std::vector<std::int64_t> shape;
    std::uint64_t elements = 1;
    for (const auto& extent : entry["shape"]) {
      if (!extent.is_number_unsigned()) damaged(path, "tensor '" + name + "' has a nonsense shape");
      const auto n = extent.get<std::uint64_t>();
      if (n != 0 && elements > max_elements / n)
        damaged(path, "tensor '" + name + "' is too large");
      elements *= n;
      shape.push_back(static_cast<std::int64_t>(n));
    }
    if (!entry["data_offsets"][0].is_number_unsigned() ||
        !entry["data_offsets"][1].is_number_unsigned()) {
      damaged(path, "tensor '" + name + "' has nonsense offsets");
    }
    const auto begin = entry["data_offsets"][0].get<std::uint64_t>();
    const auto end = entry["data_offsets"][1].get<std::uint64_t>();
    if (begin > end || end > file.data_bytes || end - begin != elements * kind->bytes) {
      damaged(path, "tensor '" + name + "' lies outside the file");
    }
    auto tensor = torch::empty(shape, kind->type);
    file.stream.seekg(static_cast<std::streamoff>(file.data_start + begin));
    if (!file.stream.read(static_cast<char*>(tensor.data_ptr()),
                          static_cast<std::streamsize>(end - begin))) {
      damaged(path, "truncated");
    }
    result.tensors.emplace(name, std::move(tensor));
  }
  return result;
}

void write_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  json header = json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  std::uint64_t offset = 0;
  std::vector<torch::Tensor> ordered;
  for (const auto& [name, tensor] : file.tensors) {
    const auto plain = tensor.detach().cpu().contiguous();
    const Kind* kind = nullptr;
    for (const Kind& k : kinds) {
      if (plain.scalar_type() == k.type) kind = &k;
    }
    TORCH_CHECK(kind != nullptr, "tensor type without a safetensors name");
    const std::uint64_t bytes = static_cast<std::uint64_t>(plain.numel()) * kind->bytes;
    header[name] = {{"dtype", kind->name},
                    {"shape", plain.sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
    ordered.push_back(plain);
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t header_bytes = text.size();

  std::filesystem::path part = path;
  part += ".part";
  const int descriptor = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const auto fail = [&] {
    const std::string reason = std::strerror(errno);
    if (descriptor >= 0) ::close(descriptor);
    std::filesystem::remove(part);
    throw Error(ErrorKind::cannot_write, path.string() + ": cannot be written: " + reason);
  };
  if (descriptor < 0) fail();
  const auto put = [&](const void* data, std::uint64_t bytes) {
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
      const auto written = ::write(descriptor, at, bytes);
      if (written < 0) fail();
      at += written;
      bytes -= static_cast<std::uint64_t>(written);
    }
  };
  put(&header_bytes, 8);
  put(text.data(), text.size());
  for (const auto& tensor : ordered) put(tensor.data_ptr(), tensor.nbytes());
  if (::fsync(descriptor) != 0 || ::close(descriptor) != 0 ||
      ::rename(part.c_str(), path.c_str()) != 0)
    fail();
}

}  // namespace limpid
