// A tile of a large file takes memory for the tile, not for the file.
#include <fstream>

#include "test_support.h"

namespace limpid {
namespace {

constexpr int side = 16384;  // 1.07 GB of 32-bit samples
constexpr std::uintmax_t pixel_bytes = std::uintmax_t{side} * side * 4;
constexpr std::uint64_t most = 30'000'000;  // what a tile may take

/// A line of /proc/self/status, such as VmHWM, in bytes.
std::uint64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stoull(line.substr(key.size() + 1)) << 10;
  }
  return 0;
}

/// What reading a tile adds to the memory that the process holds, at its highest.
std::uint64_t memory_of_a_tile(const std::filesystem::path& path) {
  std::ofstream("/proc/self/clear_refs") << 5;  // from here on VmHWM counts anew
  const std::uint64_t before = status_bytes("VmRSS");
  const Image tile = read_tile(path, {side / 2, side / 2, 512, 512});
  const std::uint64_t highest = status_bytes("VmHWM");
  EXPECT_EQ(tile.size(), (Size{512, 512}));
  return highest > before ? highest - before : 0;
}

/// A header, and behind it a hole in the file: zeros that take no room on the disk.
std::filesystem::path sparse(const TemporaryFolder& folder, const std::string& name,
                             const std::string& header) {
  write_text(folder / name, header);
  std::filesystem::resize_file(folder / name, header.size() + pixel_bytes);
  return folder / name;
}

std::string fits_header(const std::string& bitpix) {
  std::string text;
  const std::string length = std::to_string(side);
  for (std::string card : {"SIMPLE  =                    T", "BITPIX  = ", "NAXIS   = 2",
                           "NAXIS1  = ", "NAXIS2  = ", "BZERO   = ", "END"}) {
    if (card.starts_with("BITPIX")) card += bitpix;
    if (card.starts_with("NAXIS1") || card.starts_with("NAXIS2")) card += length;
    if (card.starts_with("BZERO")) card += bitpix == "32" ? "2147483648" : "0";
    card.resize(80, ' ');
    text += card;
  }
  text.resize(2880, ' ');
  return text;
}

std::string xisf_header() {
  const std::string length = std::to_string(side);
  const std::string xml =
      "<xisf version=\"1.0\"><Image geometry=\"" + length + ":" + length +
      ":1\" sampleFormat=\"Float32\" bounds=\"0:1\" location=\"attachment:4096:" +
      std::to_string(pixel_bytes) + "\"/></xisf>";
  std::string file = "XISF0100";
  for (int shift = 0; shift < 32; shift += 8) {
    file += static_cast<char>(xml.size() >> shift & 0xff);
  }
  file += std::string(4, '\0') + xml;
  file.resize(4096, '\0');
  return file;
}

/// Little-endian, the whole image in one strip behind the directory.
std::string tiff_header() {
  std::string file("II\x2a\0\x8\0\0\0", 8);
  const auto number = [&](std::uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) file += static_cast<char>(value >> (8 * i) & 0xff);
  };
  struct Entry {
    std::uint32_t tag, value;
  };
  const std::vector<Entry> entries{
      {256, side}, {257, side}, {258, 32},
      {259, 1},    {262, 1},    {273, 4096},
      {277, 1},    {278, side}, {279, static_cast<std::uint32_t>(pixel_bytes)},
      {339, 1}};
  number(static_cast<std::uint32_t>(entries.size()), 2);
  for (const Entry& entry : entries) {
    number(entry.tag, 2);
    number(4, 2);  // LONG
    number(1, 4);
    number(entry.value, 4);
  }
  file.resize(4096, '\0');
  return file;
}

TEST(TileMemory, ATileOfAGigabyteTakesLessThanThirtyMegabytes) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer takes memory of its own";
#endif
  if (!std::ofstream("/proc/self/clear_refs")) GTEST_SKIP() << "no /proc to measure with";
  const TemporaryFolder folder;
  for (const auto& [name, header] : {std::pair{"whole.fits", fits_header("32")},
                                     {"float.fits", fits_header("-32")},
                                     {"float.xisf", xisf_header()},
                                     {"whole.tif", tiff_header()}}) {
    const std::uint64_t bytes = memory_of_a_tile(sparse(folder, name, header));
    EXPECT_LT(bytes, most) << name;
    RecordProperty(name, std::to_string(bytes));
    std::filesystem::remove(folder / name);
  }
}

}  // namespace
}  // namespace limpid
