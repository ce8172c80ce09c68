#include "nn/weights.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <limpid/error.h>

namespace limpid {
namespace {

std::filesystem::path scratch(const std::string& name) {
  return std::filesystem::temp_directory_path() /
         ("limpid_weights_" + std::to_string(::getpid()) + "_" + name);
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string with_header(const std::string& header, std::size_t data_bytes) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i)
    bytes[i] = static_cast<char>((header.size() >> (8 * i)) & 0xff);
  return bytes + header + std::string(data_bytes, '\0');
}

TEST(Safetensors, ReadsBackWhatWasWritten) {
  const auto path = scratch("round.safetensors");
  TensorFile file;
  file.tensors["a"] = torch::randn({2, 3, 4});
  file.tensors["b"] = torch::randn({5}).to(torch::kHalf);
  file.metadata["name"] = "héllo \"quoted\"";
  write_safetensors(path, file);
  const TensorFile again = read_safetensors(path);
  EXPECT_TRUE(torch::equal(again.tensors.at("a"), file.tensors["a"]));
  EXPECT_TRUE(torch::equal(again.tensors.at("b"), file.tensors["b"]));
  EXPECT_EQ(again.metadata, file.metadata);
  std::filesystem::remove(path);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const auto path = scratch("cut.safetensors");
  TensorFile file;
  file.tensors["a"] = torch::ones({4, 4});
  write_safetensors(path, file);
  const std::string whole = bytes_of(path);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write(path, whole.substr(0, size));
    EXPECT_THROW(read_safetensors(path), Error) << size << " bytes";
  }
  std::filesystem::remove(path);
}

TEST(Safetensors, NonsenseIsRefusedBeforeMemoryIsTaken) {
  const auto path = scratch("nonsense.safetensors");
  for (const char* header :
       {R"({"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,16]}})",
        R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}})",
        R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})",
        R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})",
        R"({"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}})",
        R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},
            "b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
        R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
        R"({"a":{"dtype":"Q7","shape":[4],"data_offsets":[0,16]}})", R"({"a":7})", R"([1,2])",
        R"({"a":)"}) {
    write(path, with_header(header, 16));
    EXPECT_THROW(read_safetensors(path), Error) << header;
  }
  write(path, std::string(8, '\xff') + std::string(64, ' '));
  EXPECT_THROW(read_safetensors(path), Error);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace limpid
