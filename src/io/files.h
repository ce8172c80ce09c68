// The two ends of every format: a file that is only read, and a file that appears whole or not at
// all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace limpid::io {

/// How messages call a file.
std::string shown(const std::filesystem::path& path);
/// Whether the path is "-": standard input or output.
bool is_stream(const std::filesystem::path& path);

/// Random access to a file's bytes, from disk or from memory; standard input is read to its end
/// first, once for all. Throws Error(bad_input).
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  /// Bytes that were unpacked from `path`.
  InputFile(std::filesystem::path path, std::vector<std::byte> bytes);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// A path under which a library opens the very same file, which is not in memory.
  [[nodiscard]] std::filesystem::path open_path() const;
  /// All of `bytes`, or an exception.
  void read_at(std::uint64_t position, std::span<std::byte> bytes) const;
  /// Takes memory only after comparing with the file's size.
  [[nodiscard]] std::vector<std::byte> read_at(std::uint64_t position, std::uint64_t count) const;
  /// The bytes of a file in memory; empty for one on disk.
  [[nodiscard]] std::span<std::byte> memory() { return bytes_; }

 private:
  std::filesystem::path path_;
  std::vector<std::byte> bytes_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// Collects a new file that has no name until commit(); a crash, a full disk or a signal leaves the
/// target as it was. Standard output gets the file at commit(). Throws Error(cannot_write).
class OutputFile {
 public:
  OutputFile(const std::filesystem::path& target, bool overwrite);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Appends at the current position.
  void write(std::span<const std::byte> bytes);
  void write(const std::string& text);
  void write_zeros(std::size_t count);
  [[nodiscard]] std::uint64_t position() const { return position_; }
  void seek(std::uint64_t position) { position_ = position; }
  [[nodiscard]] std::uint64_t size() const;
  /// Bytes written before; fewer than asked at the end.
  std::size_t read(std::span<std::byte> bytes);
  /// Flushes to disk and gives the file its name.
  void commit();
  [[nodiscard]] const std::filesystem::path& target() const { return target_; }

 private:
  [[noreturn]] void fail(const std::string& what, int error) const;
  void open_named();
  void copy_to_standard_output();
  bool link_to(const std::filesystem::path& name);

  std::filesystem::path target_;     ///< symbolic links followed
  std::filesystem::path temporary_;  ///< empty while the file has no name
  bool overwrite_ = false;
  int descriptor_ = -1;
  std::uint64_t position_ = 0;
};

}  // namespace limpid::io
