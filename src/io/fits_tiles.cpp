#include "fits_tiles.h"

#include <algorithm>
#include <array>
#include <string>

#include <limpid/error.h>

#include "inflate.h"

namespace limpid::io {
namespace {

[[noreturn]] void fail(const InputFile& file) {
  throw Error(ErrorKind::bad_input, shown(file.path()) + ": damaged FITS: a packed tile is broken");
}

std::uint64_t key_or(fitsfile* fits, const std::string& keyword, std::uint64_t otherwise) {
  int status = 0;
  LONGLONG value = 0;
  fits_read_key(fits, TLONGLONG, keyword.c_str(), &value, nullptr, &status);
  return status == 0 && value >= 0 ? static_cast<std::uint64_t>(value) : otherwise;
}

std::uint64_t pixels_of_a_tile(fitsfile* fits) {
  std::uint64_t pixels = 1;
  const std::uint64_t axes = std::min<std::uint64_t>(key_or(fits, "ZNAXIS", 0), 9);
  for (std::uint64_t axis = 1; axis <= axes; ++axis) {
    // Without ZTILEn a tile is one row.
    const std::uint64_t otherwise = axis == 1 ? key_or(fits, "ZNAXIS1", 1) : 1;
    pixels *= std::clamp<std::uint64_t>(key_or(fits, "ZTILE" + std::to_string(axis), otherwise), 1,
                                        std::uint64_t{1} << 24);
    if (pixels > std::uint64_t{1} << 40) break;
  }
  return pixels;
}

std::uint64_t big_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (const std::byte byte : bytes) value = value << 8 | std::to_integer<std::uint64_t>(byte);
  return value;
}

void check_tile(const InputFile& file, std::span<const std::byte> tile, bool gzip, bool hcompress,
                std::uint64_t tile_pixels) {
  if (gzip) {
    const auto size = gunzipped_size(tile);
    if (!size || *size > 8 * tile_pixels) fail(file);
  }
  if (hcompress) {
    // Magic DD 99, then the two sides as 32-bit numbers (White 1992).
    if (tile.size() < 14 || big_endian(tile.first(2)) != 0xdd99) fail(file);
    const std::uint64_t nx = big_endian(tile.subspan(2, 4)), ny = big_endian(tile.subspan(6, 4));
    if (nx == 0 || ny == 0 || nx > tile_pixels || ny > tile_pixels / nx) fail(file);
  }
}

void check_column(fitsfile* fits, const InputFile& file, std::uint64_t heap, int column, bool gzip,
                  bool hcompress) {
  int status = 0;
  LONGLONG rows = 0;
  fits_get_num_rowsll(fits, &rows, &status);
  const std::uint64_t tile_pixels = pixels_of_a_tile(fits);
  std::uint64_t packed = 0;
  for (LONGLONG row = 1; row <= rows; ++row) {
    LONGLONG length = 0, offset = 0;
    fits_read_descriptll(fits, column, row, &length, &offset, &status);
    if (status != 0 || length < 0 || offset < 0) fail(file);
    if (length == 0) continue;
    const auto bytes = static_cast<std::uint64_t>(length);
    const auto place = static_cast<std::uint64_t>(offset);
    // Honest tiles do not overlap: together they fit into the file.
    if (bytes > file.size() - packed || place > file.size() || heap + place > file.size() ||
        bytes > file.size() - heap - place) {
      fail(file);
    }
    packed += bytes;
    if (gzip || hcompress) {
      check_tile(file, file.read_at(heap + place, bytes), gzip, hcompress, tile_pixels);
    }
  }
}

}  // namespace

void require_sound_tiles(fitsfile* fits, const InputFile& file, std::uint64_t data_start) {
  const std::uint64_t row_bytes = key_or(fits, "NAXIS1", 0), rows = key_or(fits, "NAXIS2", 0);
  if (data_start > file.size() || (rows > 0 && row_bytes > (file.size() - data_start) / rows)) {
    fail(file);
  }
  const std::uint64_t heap = data_start + key_or(fits, "THEAP", row_bytes * rows);
  std::array<char, FLEN_VALUE> algorithm{};
  int status = 0;
  fits_read_key(fits, TSTRING, "ZCMPTYPE", algorithm.data(), nullptr, &status);
  const std::string name = algorithm.data();
  for (const char* column_name : {"COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA"}) {
    status = 0;
    int column = 0;
    std::string pattern = column_name;
    fits_get_colnum(fits, CASEINSEN, pattern.data(), &column, &status);
    if (status != 0) continue;
    const bool main_column = pattern == "COMPRESSED_DATA";
    check_column(fits, file, heap, column,
                 (main_column && name.starts_with("GZIP")) || pattern.starts_with("GZIP"),
                 main_column && name.starts_with("HCOMPRESS"));
  }
  fits_clear_errmsg();
}

}  // namespace limpid::io
