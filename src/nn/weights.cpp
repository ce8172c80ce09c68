#include "nn/weights.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include <limpid/error.h>

#include "nn/safetensors.h"

namespace limpid {
namespace {

using nlohmann::json;

struct Kind {
  const char* name;
  torch::ScalarType type;
};
constexpr std::array<Kind, 8> kinds{{{"F32", torch::kFloat},
                                     {"F16", torch::kHalf},
                                     {"BF16", torch::kBFloat16},
                                     {"F64", torch::kDouble},
                                     {"I64", torch::kLong},
                                     {"I32", torch::kInt},
                                     {"I16", torch::kShort},
                                     {"U8", torch::kByte}}};

}  // namespace

TensorFile read_safetensors(const std::filesystem::path& path) {
  const SafetensorsHeader header = read_safetensors_header(path);
  std::ifstream stream(path, std::ios::binary);
  TensorFile result{{}, header.metadata};
  for (const auto& [name, place] : header.tensors) {
    const auto* kind = std::ranges::find(kinds, place.type, &Kind::name);
    assert(kind != kinds.end());  // the header knows the same types
    auto tensor = torch::empty(place.shape, kind->type);
    read_tensor(stream, path, place, tensor.data_ptr());
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
    const auto kind = std::ranges::find(kinds, plain.scalar_type(), &Kind::type);
    TORCH_CHECK(kind != kinds.end(), "tensor type without a safetensors name");
    const std::uint64_t bytes = plain.nbytes();
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
