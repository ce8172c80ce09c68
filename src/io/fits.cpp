// Reads FITS: headers, extensions and tile compression by CFITSIO, plain pixels straight from the
// file, of which nothing is believed before it was compared with the file's size.
#include "fits.h"

#include <fitsio.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include <limpid/error.h>

#include "fits_structure.h"
#include "fits_tiles.h"
#include "inflate.h"
#include "raw_pixels.h"

namespace limpid::io {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(ErrorKind::bad_input, shown(path) + ": " + what);
}

void check(const fs::path& path, int status) {
  if (status == 0) return;
  std::array<char, FLEN_STATUS> text{};
  fits_get_errstatus(status, text.data());
  fits_clear_errmsg();
  if (status == MEMORY_ALLOCATION) throw Error(ErrorKind::exhausted, shown(path) + ": no memory");
  fail(path, std::string("damaged FITS: ") + text.data());
}

bool is_gzip(const InputFile& file) {
  std::array<std::byte, 2> magic{};
  if (file.size() < magic.size()) return false;
  file.read_at(0, magic);
  return magic[0] == std::byte{0x1f} && magic[1] == std::byte{0x8b};
}

/// A FITS file, unpacked into memory when it was gzipped.
class OpenFits {
 public:
  explicit OpenFits(const fs::path& path) : file_(open(path)) {
    sound_hdus_ = count_sound_hdus(*file_);
    int status = 0;
    if (file_->memory().empty()) {
      fits_open_diskfile(&fits_, file_->open_path().c_str(), READONLY, &status);
    } else {
      buffer_ = file_->memory().data();
      buffer_size_ = file_->memory().size();
      fits_open_memfile(&fits_, "memory", READONLY, &buffer_, &buffer_size_, 0, nullptr, &status);
    }
    check(path, status);
  }
  ~OpenFits() {
    int status = 0;
    if (fits_ != nullptr) fits_close_file(fits_, &status);
    fits_clear_errmsg();
  }
  OpenFits(const OpenFits&) = delete;
  OpenFits& operator=(const OpenFits&) = delete;

  [[nodiscard]] fitsfile* get() const { return fits_; }
  [[nodiscard]] const InputFile& file() const { return *file_; }
  [[nodiscard]] int sound_hdus() const { return sound_hdus_; }

 private:
  static std::unique_ptr<InputFile> open(const fs::path& path) {
    auto file = std::make_unique<InputFile>(path);
    if (!is_gzip(*file)) return file;
    auto bytes = gunzip(*file);
    if (bytes.size() < 9 || std::memcmp(bytes.data(), "SIMPLE  =", 9) != 0) {
      fail(path, "gzipped, but not a FITS file");
    }
    return std::make_unique<InputFile>(path, std::move(bytes));
  }

  std::unique_ptr<InputFile> file_;
  void* buffer_ = nullptr;
  std::size_t buffer_size_ = 0;
  fitsfile* fits_ = nullptr;
  int sound_hdus_ = 0;
};

struct Axes {
  int count = 0;
  std::array<LONGLONG, 9> length{};
};

/// No axes for a HDU that is not an image.
Axes axes_of_current(fitsfile* fits) {
  Axes axes;
  int status = 0, type = 0;
  if (fits_get_hdu_type(fits, &type, &status) != 0 || type != IMAGE_HDU) return {};
  fits_get_img_dim(fits, &axes.count, &status);
  if (status != 0 || axes.count < 1 || axes.count > 9) return {};
  fits_get_img_sizell(fits, 9, axes.length.data(), &status);
  for (int i = 0; i < axes.count; ++i) {
    if (axes.length[static_cast<std::size_t>(i)] < 1) return {};
  }
  return status == 0 ? axes : Axes{};
}

/// The HDU numbers (from 1) of all images. A damaged HDU ends the list.
std::vector<int> find_images(const OpenFits& fits) {
  std::vector<int> images;
  int status = 0;
  for (int number = 1; number <= fits.sound_hdus(); ++number) {
    if (fits_movabs_hdu(fits.get(), number, nullptr, &status) != 0) break;
    if (axes_of_current(fits.get()).count > 0) images.push_back(number);
  }
  fits_clear_errmsg();
  return images;
}

/// What the axes mean: x, y or x, y, channel or channel, x, y; axes of length 1 mean nothing.
RawPixels layout_from(const fs::path& path, const Axes& axes) {
  const auto& n = axes.length;
  LONGLONG planes = 1;
  for (std::size_t i = 2; i < static_cast<std::size_t>(axes.count); ++i) {
    if (n[i] > (LONGLONG{1} << 30) / planes) fail(path, "a cube of too many planes");
    planes *= n[i];
  }
  const LONGLONG height = axes.count > 1 ? n[1] : 1;
  const bool interleaved =
      axes.count >= 3 && planes == n[2] && (n[0] == 1 || n[0] == 3) && planes != 1 && planes != 3;
  const LONGLONG channels = interleaved ? n[0] : planes;
  if (channels != 1 && channels != 3) {
    fail(path,
         "a cube of " + std::to_string(channels) + " planes; limpid takes 1 (mono) or 3 (colour)");
  }
  RawPixels pixels;
  require_sane_size(path, interleaved ? height : n[0], interleaved ? planes : height, channels);
  pixels.size = interleaved ? Size{static_cast<int>(height), static_cast<int>(planes)}
                            : Size{static_cast<int>(n[0]), static_cast<int>(height)};
  pixels.channels = static_cast<int>(channels);
  pixels.interleaved = interleaved;
  return pixels;
}

/// Cards of the current HDU without those that describe its structure.
std::vector<HeaderCard> read_cards(const fs::path& path, fitsfile* fits) {
  std::vector<HeaderCard> all, kept;
  int status = 0, count = 0;
  fits_get_hdrspace(fits, &count, nullptr, &status);
  check(path, status);
  std::array<char, FLEN_CARD> card{};
  for (int i = 1; i <= count; ++i) {
    fits_read_record(fits, i, card.data(), &status);
    check(path, status);
    append_card(all, card.data());
  }
  std::ranges::remove_copy_if(all, std::back_inserter(kept), [](const HeaderCard& kept_card) {
    return is_structural(kept_card.keyword);
  });
  return kept;
}

/// What the primary header says for all extensions, after what the extension says itself.
void inherit_cards(std::vector<HeaderCard>& cards, const std::vector<HeaderCard>& primary) {
  const std::vector<HeaderCard> own = cards;
  for (const HeaderCard& card : primary) {
    const bool text =
        card.keyword == "COMMENT" || card.keyword == "HISTORY" || card.keyword.empty();
    const bool known = std::ranges::any_of(own, [&](const HeaderCard& other) {
      return other.keyword == card.keyword && (!text || other.comment == card.comment);
    });
    if (!known) cards.push_back(card);
  }
}

SampleType type_of_bitpix(const fs::path& path, int bitpix) {
  switch (bitpix) {
    case 8:
      return SampleType::u8;
    case 16:
      return SampleType::i16;
    case 32:
      return SampleType::i32;
    case 64:
      return SampleType::i64;
    case -32:
      return SampleType::f32;
    case -64:
      return SampleType::f64;
    default:
      fail(path, "BITPIX " + std::to_string(bitpix) + " does not exist");
  }
}

double key_or(fitsfile* fits, const char* keyword, double otherwise) {
  int status = 0;
  double value = 0.0;
  fits_read_key(fits, TDOUBLE, keyword, &value, nullptr, &status);
  return status == 0 && std::isfinite(value) ? value : otherwise;
}

/// The type whose values are those of `stored` plus BZERO; nothing when BSCALE makes them other.
std::optional<SampleType> unsigned_type(SampleType stored, double scale, double zero) {
  if (scale != 1.0) return std::nullopt;
  if (zero == 0.0) return stored;
  if (stored == SampleType::i16 && zero == 32768.0) return SampleType::u16;
  if (stored == SampleType::i32 && zero == 2147483648.0) return SampleType::u32;
  if (stored == SampleType::i64 && zero == 9223372036854775808.0) return SampleType::u64;
  return std::nullopt;
}

std::optional<std::int64_t> blank_or_nothing(fitsfile* fits, SampleType type) {
  int status = 0;
  LONGLONG blank = 0;
  if (is_float(type)) return std::nullopt;
  fits_read_key(fits, TLONGLONG, "BLANK", &blank, nullptr, &status);
  return status == 0 ? std::optional<std::int64_t>(blank) : std::nullopt;
}

class FitsSource final : public ImageSource {
 public:
  FitsSource(const fs::path& path, int image) : fits_(path), path_(path) {
    const std::vector<int> images = find_images(fits_);
    if (images.empty()) fail(path, "holds no image, only tables or headers");
    require_image(path, image, static_cast<int>(images.size()));
    info_.image_count = static_cast<int>(images.size());
    name_images(images);
    describe(images[static_cast<std::size_t>(image)]);
  }

  void read(Rect rect, MutableView out) override {
    if (compressed_) {
      read_compressed(rect, out);
    } else {
      pixels_.read(fits_.file(), rect, out);
    }
  }
  [[nodiscard]] bool concurrent() const override { return !compressed_; }

 private:
  void name_images(const std::vector<int>& images) {
    if (images.size() < 2) return;
    for (const int hdu : images) {
      int status = 0;
      std::array<char, FLEN_VALUE> name{};
      fits_movabs_hdu(fits_.get(), hdu, nullptr, &status);
      fits_read_key(fits_.get(), TSTRING, "EXTNAME", name.data(), nullptr, &status);
      info_.image_names.push_back(clean_text(name.data()));
    }
  }

  void describe(int hdu) {
    std::vector<HeaderCard> primary;
    int status = 0;
    if (hdu != 1) {
      check(path_, fits_movabs_hdu(fits_.get(), 1, nullptr, &status));
      primary = read_cards(path_, fits_.get());
    }
    check(path_, fits_movabs_hdu(fits_.get(), hdu, nullptr, &status));
    compressed_ = fits_is_compressed_image(fits_.get(), &status) != 0;
    pixels_ = layout_from(path_, axes_of_current(fits_.get()));
    describe_samples();
    require_bytes();

    info_.size = pixels_.size;
    info_.channels = pixels_.channels;
    Metadata& metadata = info_.metadata;
    metadata.format = "fits";
    metadata.cards = read_cards(path_, fits_.get());
    inherit_cards(metadata.cards, primary);
    metadata.bottom_up = metadata.card("ROWORDER").value_or("") != "TOP-DOWN";
    if (info_.channels == 1) info_.bayer = bayer_pattern(metadata.cards);
  }

  void describe_samples() {
    int status = 0, bitpix = 0;
    check(path_, fits_get_img_type(fits_.get(), &bitpix, &status));
    const SampleType stored = type_of_bitpix(path_, bitpix);
    const double scale = key_or(fits_.get(), "BSCALE", 1.0);
    const double zero = key_or(fits_.get(), "BZERO", 0.0);
    pixels_.decoding = {.type = stored,
                        .big_endian = true,
                        .scale = scale,
                        .offset = zero,
                        .blank = blank_or_nothing(fits_.get(), stored)};
    Metadata& metadata = info_.metadata;
    const auto type = unsigned_type(stored, scale, zero);
    metadata.sample_type = type.value_or(SampleType::f32);
    if (!type) metadata.notes.emplace_back("BSCALE and BZERO were applied");
    metadata.scale = type && has_natural_white(*type) ? sample_max(*type) : 0.0;
    info_.compression = "none";
    if (!compressed_) return;
    std::array<char, FLEN_VALUE> name{};
    fits_read_key(fits_.get(), TSTRING, "ZCMPTYPE", name.data(), nullptr, &status);
    info_.compression = clean_text(name.data());
    std::ranges::transform(info_.compression, info_.compression.begin(),
                           [](unsigned char c) { return std::tolower(c); });
  }

  /// Compares what the header promises with the bytes that are there.
  void require_bytes() {
    int status = 0;
    LONGLONG header = 0, data = 0, end = 0;
    fits_get_hduaddrll(fits_.get(), &header, &data, &end, &status);
    check(path_, status);
    pixels_.start = static_cast<std::uint64_t>(data);
    const std::uint64_t size = fits_.file().size();
    if (compressed_) {
      const std::uint64_t hdu_bytes = static_cast<std::uint64_t>(end - header);
      return require_plausible_tiles(std::min(hdu_bytes, size));
    }
    if (pixels_.start > size || pixels_.bytes() > size - pixels_.start) {
      fail(path_, "the file is cut short: its header promises " + std::to_string(pixels_.bytes()) +
                      " bytes of pixels");
    }
  }

  /// The densest honest case is a constant frame; 16384 samples a byte is beyond what any of the
  /// algorithms makes of it. CFITSIO takes memory for a whole tile, whatever its size.
  void require_plausible_tiles(std::uint64_t bytes) const {
    const std::uint64_t samples =
        pixels_.size.pixels() * static_cast<std::uint64_t>(pixels_.channels);
    double tile = 1.0;
    for (const char* keyword : {"ZTILE1", "ZTILE2", "ZTILE3"}) {
      tile *= std::max(1.0, key_or(fits_.get(), keyword, 1.0));
    }
    if (samples / 16384 > bytes || tile > 16.0 * static_cast<double>(samples)) {
      fail(path_, "damaged FITS: its tiles cannot hold the pixels that the header promises");
    }
  }

  void read_compressed(Rect rect, MutableView out) {
    if (!tiles_checked_) require_sound_tiles(fits_.get(), fits_.file(), pixels_.start);
    tiles_checked_ = true;
    float no_data = std::numeric_limits<float>::quiet_NaN();
    for (int channel = 0; channel < out.channels(); ++channel) {
      for (int y = 0; y < rect.height; ++y) {
        std::array<long, 9> first, last, step;
        first.fill(1), last.fill(1), step.fill(1);
        const std::size_t x_axis = pixels_.interleaved ? 1 : 0;
        first[x_axis] = rect.x + 1, last[x_axis] = rect.x + rect.width;
        first[x_axis + 1] = last[x_axis + 1] = rect.y + y + 1;
        const std::size_t channel_axis = pixels_.interleaved ? 0 : 2;
        first[channel_axis] = last[channel_axis] = channel + 1;
        int status = 0, any_blank = 0;
        fits_read_subset(fits_.get(), TFLOAT, first.data(), last.data(), step.data(), &no_data,
                         out.row(channel, y).data(), &any_blank, &status);
        check(path_, status);
      }
    }
  }

  OpenFits fits_;
  fs::path path_;
  RawPixels pixels_;
  bool compressed_ = false, tiles_checked_ = false;
};

bool recognises(std::span<const std::byte> head) {
  const auto starts = [&](std::string_view magic) {
    return head.size() >= magic.size() && std::memcmp(head.data(), magic.data(), magic.size()) == 0;
  };
  return starts("SIMPLE  =") || starts("\x1f\x8b");
}

std::unique_ptr<ImageSource> open(const fs::path& path, int image) {
  return std::make_unique<FitsSource>(path, image);
}

}  // namespace

Format fits_format() {
  using enum SampleType;
  return {.name = "fits",
          .endings = {".fits", ".fit", ".fts", ".fz"},
          .writable = {u8, i16, u16, i32, u32, i64, f32, f64},
          .compressions = {Compression::none, Compression::zlib, Compression::rice},
          .checksums = false,
          .recognises = recognises,
          .open = open,
          .write = write_fits};
}

}  // namespace limpid::io
