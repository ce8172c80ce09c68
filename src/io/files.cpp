#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>

#include <limpid/error.h>
#include <limpid/io.h>

namespace limpid::io {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

/// At the descriptor's own position; false with errno set.
bool write_all(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(descriptor, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
  return true;
}

fs::path folder_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

/// Where a symbolic link leads, so that the link survives and its target is replaced.
fs::path followed(const fs::path& path) {
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;
  const fs::path resolved = fs::weakly_canonical(path, error);
  return error ? path : resolved;
}

/// A file without a name, in the folder for temporary files.
int open_unnamed() {
  std::FILE* const file = std::tmpfile();
  if (file == nullptr) return -1;
  const int descriptor = ::fcntl(::fileno(file), F_DUPFD_CLOEXEC, 0);
  std::fclose(file);
  return descriptor;
}

/// All that standard input has, as a file: readers go back and forth. Never closed.
int spooled_input() {
  static const int spool = [] {
    const int file = open_unnamed();
    std::vector<std::byte> chunk(std::size_t{1} << 20);
    while (file >= 0) {
      const ssize_t got = ::read(STDIN_FILENO, chunk.data(), chunk.size());
      if (got < 0 && errno == EINTR) continue;
      if (got == 0) break;
      if (got < 0 || !write_all(file, std::span(chunk).first(static_cast<std::size_t>(got)))) {
        throw Error(ErrorKind::bad_input, "standard input: " + reason(errno));
      }
    }
    return file;
  }();
  return spool;
}

/// A name beside the target that no other process is likely to choose.
fs::path neighbour(const fs::path& target) {
  std::random_device random;
  return folder_of(target) /
         (".limpid-" + std::to_string(::getpid()) + "-" + std::to_string(random()) + ".part");
}

}  // namespace

std::string shown(const fs::path& path) { return path.string(); }

bool is_stream(const fs::path& path) { return path == "-"; }

InputFile::InputFile(const fs::path& path) : path_(path) {
  descriptor_ = is_stream(path) ? ::fcntl(spooled_input(), F_DUPFD_CLOEXEC, 0)
                                : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
    const int error = errno;
    if (descriptor_ >= 0) ::close(descriptor_);
    throw Error(ErrorKind::bad_input, shown(path) + ": " + reason(error));
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(ErrorKind::bad_input,
                shown(path) + (S_ISDIR(status.st_mode) ? ": is a folder; name the files in it"
                                                       : ": not a regular file"));
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::InputFile(fs::path path, std::vector<std::byte> bytes)
    : path_(std::move(path)),
      bytes_(std::move(bytes)),
      size_(bytes_.size()) {}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

fs::path InputFile::open_path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

void InputFile::read_at(std::uint64_t position, std::span<std::byte> bytes) const {
  if (position > size_ || bytes.size() > size_ - position) {
    throw Error(ErrorKind::bad_input, shown(path_) + ": the file is cut short");
  }
  if (descriptor_ < 0) {
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(position), bytes.size(),
                bytes.begin());
    return;
  }
  while (!bytes.empty()) {
    const ssize_t got =
        ::pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(position));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw Error(ErrorKind::bad_input,
                  shown(path_) + ": " + (got < 0 ? reason(errno) : "the file is cut short"));
    }
    position += static_cast<std::uint64_t>(got);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
}

std::vector<std::byte> InputFile::read_at(std::uint64_t position, std::uint64_t count) const {
  if (position > size_ || count > size_ - position) {
    throw Error(ErrorKind::bad_input, shown(path_) + ": the file is cut short");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(count));
  read_at(position, bytes);
  return bytes;
}

OutputFile::OutputFile(const fs::path& target, bool overwrite)
    : target_(followed(target)),
      overwrite_(overwrite) {
  if (is_stream(target)) {
    descriptor_ = open_unnamed();
    if (descriptor_ < 0) fail("no room for a temporary file", errno);
    return;
  }
  std::error_code ignored;
  if (!overwrite && fs::exists(target_, ignored)) fail("exists; use --overwrite to replace it", 0);
  // A file without a name is gone with its last descriptor, whatever kills the process.
  descriptor_ = ::open(folder_of(target_).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (descriptor_ < 0) open_named();
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::fail(const std::string& what, int error) const {
  throw Error(ErrorKind::cannot_write,
              shown(target_) + ": " + what + (error != 0 ? ": " + reason(error) : ""));
}

/// For file systems that know no nameless files.
void OutputFile::open_named() {
  const fs::path name = neighbour(target_);
  descriptor_ = ::open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("cannot be written", errno);
  temporary_ = name;
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done =
        ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(position_));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail("cannot be written", done < 0 ? errno : ENOSPC);
    position_ += static_cast<std::uint64_t>(done);
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void OutputFile::write(const std::string& text) { write(std::as_bytes(std::span(text))); }

void OutputFile::write_zeros(std::size_t count) {
  static constexpr std::array<std::byte, 4096> zeros{};
  for (; count > 0; count -= std::min(count, zeros.size())) {
    write(std::span(zeros).first(std::min(count, zeros.size())));
  }
}

std::uint64_t OutputFile::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail("cannot be written", errno);
  return static_cast<std::uint64_t>(status.st_size);
}

std::size_t OutputFile::read(std::span<std::byte> bytes) {
  std::size_t total = 0;
  while (total < bytes.size()) {
    const ssize_t got = ::pread(descriptor_, bytes.data() + total, bytes.size() - total,
                                static_cast<off_t>(position_));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    total += static_cast<std::size_t>(got);
    position_ += static_cast<std::uint64_t>(got);
  }
  return total;
}

void OutputFile::copy_to_standard_output() {
  std::vector<std::byte> chunk(std::size_t{1} << 20);
  position_ = 0;
  while (const std::size_t count = read(chunk)) {
    if (!write_all(STDOUT_FILENO, std::span(chunk).first(count))) {
      fail("standard output cannot be written", errno);
    }
  }
}

/// False when the name is taken.
bool OutputFile::link_to(const fs::path& name) {
  const std::string self = "/proc/self/fd/" + std::to_string(descriptor_);
  if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
  if (errno != EEXIST) fail("cannot be given its name", errno);
  return false;
}

void OutputFile::commit() {
  if (is_stream(target_)) return copy_to_standard_output();
  struct stat old {};
  if (::stat(target_.c_str(), &old) == 0) ::fchmod(descriptor_, old.st_mode & 07777);
  if (::fsync(descriptor_) != 0) fail("cannot be flushed to disk", errno);
  if (temporary_.empty() && overwrite_) {
    fs::path name = neighbour(target_);
    while (!link_to(name)) name = neighbour(target_);
    temporary_ = name;
  }
  if (overwrite_) {
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("cannot be replaced", errno);
    temporary_.clear();
  } else if (temporary_.empty()) {
    if (!link_to(target_)) fail("exists; use --overwrite to replace it", 0);
  } else if (::link(temporary_.c_str(), target_.c_str()) != 0) {
    // Linking, not renaming: a file that appeared meanwhile is not replaced.
    if (errno == EEXIST) fail("exists; use --overwrite to replace it", 0);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("cannot be written", errno);
    temporary_.clear();
  }
  const int folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);  // the name, too, must survive a power cut; some file systems cannot do it
    ::close(folder);
  }
}

}  // namespace limpid::io

namespace limpid {

void write_file_atomically(const std::filesystem::path& path, const void* data, std::size_t bytes,
                           bool overwrite) {
  io::OutputFile file(path, overwrite);
  file.write({static_cast<const std::byte*>(data), bytes});
  file.commit();
}

}  // namespace limpid
