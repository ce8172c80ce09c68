// What the tests of the formats share: a folder that vanishes, frames of known content, raw files.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <stdlib.h>

#include <limpid/error.h>
#include <limpid/io.h>

namespace limpid {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "limpid-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const {
    return path_ / name;
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Every pixel is another multiple of 1/255, so that each integer type holds it exactly.
inline Image ramp(int channels, Size size) {
  Image image(channels, size);
  int i = 0;
  for (float& pixel : image.pixels()) pixel = static_cast<float>((i++ * 37) % 256) / 255.0F;
  return image;
}

inline void write_text(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<long>(bytes.size()));
}
inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// Runs `action`, which must throw limpid::Error, and returns its kind and text.
template <typename Action>
std::pair<ErrorKind, std::string> error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

/// The text of the Error(bad_input) that reading this file throws.
inline std::string refusal(const std::filesystem::path& path) {
  const auto [kind, text] = error_of([&] { read_frame(path); });
  EXPECT_EQ(kind, ErrorKind::bad_input) << text;
  EXPECT_TRUE(text.starts_with(path.string())) << text;
  return text;
}

/// Reads the file cut at many lengths and with bytes changed: it must be read or refused, never
/// crash (the sanitizers watch) and never ask for more memory than the file can hold.
inline void abuse(const TemporaryFolder& folder, const std::filesystem::path& original) {
  const std::string bytes = read_text(original);
  const std::filesystem::path damaged = folder / ("damaged" + original.extension().string());
  const auto try_to_read = [&](const std::string& content) {
    write_text(damaged, content);
    try {
      read_frame(damaged);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input) << error.what();
    }
  };
  for (std::size_t i = 0; i <= 40; ++i) try_to_read(bytes.substr(0, bytes.size() * i / 41));
  unsigned random = 12345;
  for (int i = 0; i < 100; ++i) {
    std::string changed = bytes;
    for (int j = 0; j < 4; ++j) {
      random = random * 1664525U + 1013904223U;  // Numerical Recipes
      // Headers lie at the front and matter most.
      const std::size_t range =
          j % 2 == 0 ? std::min<std::size_t>(changed.size(), 600) : changed.size();
      changed[(random >> 8) % range] = static_cast<char>(random >> 20);
    }
    try_to_read(changed);
  }
}

}  // namespace limpid
