#include "nn/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include <limpid/error.h>

#include "nn/tensors.h"

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

TEST(Parameters, AreWhatLibTorchReads) {
  const auto path = scratch("types.safetensors");
  TensorFile file;
  // every half there is, infinities and subnormal ones included, but for those that are no number
  auto halves = torch::arange(65536, torch::kInt).to(torch::kShort).view(torch::kHalf);
  halves = torch::where(halves.isnan(), torch::zeros_like(halves), halves);
  file.tensors["F16"] = halves;
  file.tensors["BF16"] = torch::randn({7, 3}).to(torch::kBFloat16);
  file.tensors["F32"] = torch::randn({2, 3, 4});
  file.tensors["F64"] = torch::randn({5}, torch::kDouble);
  for (const auto type : {torch::kLong, torch::kInt, torch::kShort, torch::kByte})
    file.tensors[torch::toString(type)] = torch::randint(200, {6}, type);
  write_safetensors(path, file);
  const Parameters parameters = read_parameters(path, read_safetensors_header(path));
  ASSERT_EQ(parameters.size(), file.tensors.size());
  for (const auto& [name, tensor] : file.tensors)
    EXPECT_TRUE(torch::equal(to_tensor(parameters.at(name)), tensor.to(torch::kFloat))) << name;
  std::filesystem::remove(path);
}

TEST(BFloat16, RoundsAsLibTorchDoes) {
  torch::manual_seed(6);
  const auto floats =
      torch::randint(std::numeric_limits<std::int32_t>::min(),
                     std::numeric_limits<std::int32_t>::max(), {100000}, torch::kInt)
          .view(torch::kFloat);
  const auto wanted = floats.to(torch::kBFloat16);
  for (std::int64_t i = 0; i < floats.numel(); ++i) {
    const BFloat16 made(floats.data_ptr<float>()[i]);
    if (std::isnan(floats.data_ptr<float>()[i])) {
      EXPECT_TRUE(std::isnan(static_cast<float>(made)));
    } else {
      EXPECT_EQ(made.bits, bfloats_of(wanted)[i].bits);
    }
  }
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
