#include "files.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "test_support.h"

namespace limpid::io {
namespace {

namespace fs = std::filesystem;

std::size_t entries(const TemporaryFolder& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()));
}

TEST(OutputFile, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  {
    OutputFile file(folder / "a.txt", false);
    file.write("half");
    EXPECT_EQ(entries(folder), 0U);
  }
  EXPECT_EQ(entries(folder), 0U);
  write_file_atomically(folder / "a.txt", "whole", 5, false);
  EXPECT_EQ(read_text(folder / "a.txt"), "whole");
  EXPECT_EQ(entries(folder), 1U);
}

TEST(OutputFile, OldFileStaysUntilCommitAndIsReplacedWhole) {
  const TemporaryFolder folder;
  write_text(folder / "a.txt", "old");
  {
    OutputFile file(folder / "a.txt", true);
    file.write("new");
    EXPECT_EQ(read_text(folder / "a.txt"), "old");
    file.commit();
  }
  EXPECT_EQ(read_text(folder / "a.txt"), "new");
  EXPECT_EQ(entries(folder), 1U);
}

TEST(OutputFile, NothingIsReplacedWithoutLeave) {
  const TemporaryFolder folder;
  write_text(folder / "a.txt", "old");
  EXPECT_EQ(error_of([&] { OutputFile(folder / "a.txt", false); }).first, ErrorKind::cannot_write);
  OutputFile late(folder / "b.txt", false);
  late.write("mine");
  write_text(folder / "b.txt", "theirs");  // appears while we write
  EXPECT_EQ(error_of([&] { late.commit(); }).first, ErrorKind::cannot_write);
  EXPECT_EQ(read_text(folder / "b.txt"), "theirs");
}

TEST(OutputFile, KeepsTheModeAndTheSymbolicLink) {
  const TemporaryFolder folder;
  write_text(folder / "real.txt", "old");
  ::chmod((folder / "real.txt").c_str(), 0640);
  fs::create_symlink("real.txt", folder / "link.txt");
  write_file_atomically(folder / "link.txt", "new", 3, true);
  EXPECT_TRUE(fs::is_symlink(folder / "link.txt"));
  EXPECT_EQ(read_text(folder / "real.txt"), "new");
  EXPECT_EQ(fs::status(folder / "real.txt").permissions(), fs::perms(0640));
}

TEST(OutputFile, MissingFolderIsAnErrorThatNamesTheFile) {
  const auto [kind, text] =
      error_of([] { write_file_atomically("/nonexistent/a.txt", "x", 1, false); });
  EXPECT_EQ(kind, ErrorKind::cannot_write);
  EXPECT_NE(text.find("/nonexistent/a.txt"), std::string::npos);
}

/// A limit on the size of files stands in for a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit lower{bytes, old_.rlim_max};
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &lower);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*handler_)(int) = nullptr;
};

TEST(OutputFile, FailedWriteOfAnyFormatLeavesTheOldFileAndNoLitter) {
  const TemporaryFolder folder;
  const Frame frame{ramp(3, {200, 200}), {}};
  for (const std::string& ending : writable_endings()) {
    const fs::path target = folder / ("frame" + ending);
    write_text(target, "old");
    const FileSizeLimit limit(50);
    const auto [kind, text] = error_of([&] { write_frame(target, frame, {.overwrite = true}); });
    EXPECT_EQ(kind, ErrorKind::cannot_write) << text;
    EXPECT_EQ(read_text(target), "old");
    fs::remove(target);
  }
  EXPECT_EQ(entries(folder), 0U);
}

TEST(OutputFile, StopRequestEndsTheWriteWithoutATrace) {
  const TemporaryFolder folder;
  const Frame frame{ramp(1, {64, 64}), {}};
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  stop.request_stop();
  for (const std::string& ending : writable_endings()) {
    EXPECT_EQ(
        error_of([&] { write_frame(folder / ("frame" + ending), frame, {}, progress); }).first,
        ErrorKind::interrupted);
  }
  EXPECT_EQ(entries(folder), 0U);
}

TEST(InputFile, FoldersAndMissingFilesAreNamed) {
  const TemporaryFolder folder;
  EXPECT_NE(refusal(folder.path()).find("folder"), std::string::npos);
  EXPECT_NE(refusal(folder / "none.fits").find("No such file"), std::string::npos);
  write_text(folder / "empty.fits", "");
  EXPECT_NE(refusal(folder / "empty.fits").find("empty"), std::string::npos);
  write_text(folder / "text.fits", "Dear diary");
  EXPECT_NE(refusal(folder / "text.fits").find("not a FITS"), std::string::npos);
}

}  // namespace
}  // namespace limpid::io
