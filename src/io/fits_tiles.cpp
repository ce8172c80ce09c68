#include "fits_tiles.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

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

/// The sides of the image and of its tiles; tiles at the far edges are cut.
class TileSizes {
 public:
  explicit TileSizes(fitsfile* fits) {
    const std::uint64_t axes = std::min<std::uint64_t>(key_or(fits, "ZNAXIS", 0), 9);
    for (std::uint64_t axis = 1; axis <= axes; ++axis) {
      const std::string number = std::to_string(axis);
      constexpr std::uint64_t longest = std::uint64_t{1} << 24;
      const std::uint64_t side =
          std::clamp<std::uint64_t>(key_or(fits, "ZNAXIS" + number, 1), 1, longest);
      // Without ZTILEn a tile is one row.
      const std::uint64_t tile = key_or(fits, "ZTILE" + number, axis == 1 ? side : 1);
      axes_.push_back({side, std::clamp<std::uint64_t>(tile, 1, longest)});
    }
  }
  /// Pixels of tile `index`, counted from 0 along the first axis first.
  [[nodiscard]] std::uint64_t pixels(std::uint64_t index) const {
    std::uint64_t count = 1;
    for (const Axis& axis : axes_) {
      const std::uint64_t tiles = (axis.side + axis.tile - 1) / axis.tile;
      count *= std::min(axis.tile, axis.side - index % tiles * axis.tile);
      index /= tiles;
    }
    return count;
  }

 private:
  struct Axis {
    std::uint64_t side, tile;
  };
  std::vector<Axis> axes_;
};

std::uint64_t big_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (const std::byte byte : bytes) value = value << 8 | std::to_integer<std::uint64_t>(byte);
  return value;
}

/// Bits from the front of a tile; knows when there are no more.
class BitReader {
 public:
  explicit BitReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool exhausted() const { return exhausted_; }
  bool bit() {
    if (position_ >= 8 * bytes_.size()) {
      exhausted_ = true;
      return true;
    }
    const unsigned byte = std::to_integer<unsigned>(bytes_[position_ / 8]);
    return (byte >> (7 - position_++ % 8) & 1) != 0;
  }
  unsigned bits(int count) {
    unsigned value = 0;
    for (; count > 0; --count) value = value << 1 | static_cast<unsigned>(bit());
    return value;
  }
  void skip(std::uint64_t count) {
    position_ += count;
    if (position_ > 8 * bytes_.size()) exhausted_ = true;
  }

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t position_ = 0;
  bool exhausted_ = false;
};

/// Parameters of Rice coding (Pence et al. 2009, PASP 121, 414).
struct Rice {
  std::uint64_t block_pixels = 32, pixel_bytes = 4;
};

/// CFITSIO takes ZVAL1 and ZVAL2 for them, whatever ZNAMEn calls these; where a name says
/// otherwise, the block comes out as one of zero pixels, which no code has.
Rice rice_of(fitsfile* fits) {
  Rice rice;
  rice.block_pixels = key_or(fits, "ZVAL1", rice.block_pixels);
  rice.pixel_bytes = key_or(fits, "ZVAL2", rice.pixel_bytes);
  for (int i = 1; i <= 9; ++i) {
    std::array<char, FLEN_VALUE> name{};
    int status = 0;
    fits_read_key(fits, TSTRING, ("ZNAME" + std::to_string(i)).c_str(), name.data(), nullptr,
                  &status);
    const std::string_view parameter = name.data();
    const bool elsewhere =
        (parameter == "BLOCKSIZE" && i != 1) || (parameter == "BYTEPIX" && i != 2);
    if (status == 0 && elsewhere) rice.block_pixels = 0;
  }
  return rice;
}

/// Whether a Rice code has all the bits that its pixels need.
bool is_sound_rice(std::span<const std::byte> tile, const Rice& rice, std::uint64_t pixels) {
  const bool known = rice.pixel_bytes == 1 || rice.pixel_bytes == 2 || rice.pixel_bytes == 4;
  if (!known || rice.block_pixels < 1 || rice.block_pixels > 4096) return false;
  const int selector_bits = rice.pixel_bytes == 1 ? 3 : rice.pixel_bytes == 2 ? 4 : 5;
  const unsigned verbatim = rice.pixel_bytes == 1 ? 6 : rice.pixel_bytes == 2 ? 14 : 25;
  BitReader reader(tile);
  reader.skip(8 * rice.pixel_bytes);  // the first pixel
  for (std::uint64_t done = 0; done < pixels && !reader.exhausted(); done += rice.block_pixels) {
    const std::uint64_t count = std::min(rice.block_pixels, pixels - done);
    const unsigned selector = reader.bits(selector_bits);
    if (selector == 0) continue;  // all differences are zero
    if (selector - 1 > verbatim) return false;
    if (selector - 1 == verbatim) {
      reader.skip(count * 8 * rice.pixel_bytes);
      continue;
    }
    for (std::uint64_t i = 0; i < count && !reader.exhausted(); ++i) {
      while (!reader.bit()) {
      }
      reader.skip(selector - 1);
    }
  }
  return !reader.exhausted();
}

/// A PLIO line list says in its header how many 16-bit words it has.
bool is_sound_plio(std::span<const std::byte> tile) {
  const auto word = [&](std::size_t i) { return big_endian(tile.subspan(2 * i, 2)); };
  if (tile.size() < 14) return false;
  const std::uint64_t words = tile.size() / 2;
  if (word(2) < 0x8000 && word(2) > 0) return word(2) <= words;
  const std::uint64_t first = word(1), length = (word(4) << 15) + word(3);
  return first < 0x8000 && word(3) < 0x8000 && word(4) < 0x8000 && length <= words;
}

/// Magic DD 99, then the two sides as 32-bit numbers (White 1992).
bool is_sound_hcompress(std::span<const std::byte> tile, std::uint64_t pixels) {
  if (tile.size() < 14 || big_endian(tile.first(2)) != 0xdd99) return false;
  const std::uint64_t nx = big_endian(tile.subspan(2, 4)), ny = big_endian(tile.subspan(6, 4));
  return nx > 0 && ny > 0 && nx <= pixels && ny <= pixels / nx;
}

bool is_sound(const std::string& algorithm, std::span<const std::byte> tile, const Rice& rice,
              std::uint64_t pixels) {
  if (algorithm.starts_with("GZIP")) {
    const auto size = gunzipped_size(tile);
    return size && *size <= 8 * pixels;
  }
  if (algorithm.starts_with("RICE")) return is_sound_rice(tile, rice, pixels);
  if (algorithm.starts_with("PLIO")) return is_sound_plio(tile);
  if (algorithm.starts_with("HCOMPRESS")) return is_sound_hcompress(tile, pixels);
  return algorithm.empty();
}

/// `algorithm` is empty for tiles that are stored as they are.
void check_column(fitsfile* fits, const InputFile& file, std::uint64_t heap, int column,
                  const std::string& algorithm) {
  int status = 0;
  LONGLONG rows = 0;
  fits_get_num_rowsll(fits, &rows, &status);
  const TileSizes sizes(fits);
  const Rice rice = rice_of(fits);
  std::uint64_t packed = 0;
  for (LONGLONG row = 1; row <= rows; ++row) {
    LONGLONG length = 0, offset = 0;
    fits_read_descriptll(fits, column, row, &length, &offset, &status);
    if (status != 0 || length < 0 || offset < 0) fail(file);
    if (length == 0) continue;
    // PLIO counts 16-bit words.
    const std::uint64_t bytes =
        static_cast<std::uint64_t>(length) * (algorithm.starts_with("PLIO") ? 2 : 1);
    const auto place = static_cast<std::uint64_t>(offset);
    // Honest tiles do not overlap: together they fit into the file.
    if (bytes > file.size() - packed || place > file.size() || heap + place > file.size() ||
        bytes > file.size() - heap - place) {
      fail(file);
    }
    packed += bytes;
    if (!is_sound(algorithm, file.read_at(heap + place, bytes), rice,
                  sizes.pixels(static_cast<std::uint64_t>(row - 1)))) {
      fail(file);
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
  const std::array<std::pair<const char*, std::string>, 3> columns{
      {{"COMPRESSED_DATA", name}, {"GZIP_COMPRESSED_DATA", "GZIP"}, {"UNCOMPRESSED_DATA", ""}}};
  for (const auto& [title, packing] : columns) {
    status = 0;
    int column = 0;
    std::string pattern = title;
    fits_get_colnum(fits, CASEINSEN, pattern.data(), &column, &status);
    if (status == 0) check_column(fits, file, heap, column, packing);
  }
  fits_clear_errmsg();
}

}  // namespace limpid::io
