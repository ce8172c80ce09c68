// Reads TIFF and BigTIFF: strips and tiles, contiguous and planar, integers and floats.
#include "tiff.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <limpid/error.h>

#include "raw_pixels.h"
#include "tiff_input.h"

namespace limpid::io {
namespace {

namespace fs = std::filesystem;

/// Strips or tiles, all of the same size; libtiff unpacks them whole.
struct Chunks {
  bool tiled = false, planar = false;
  bool plain = false;  ///< stored as the samples are, so that libtiff is not needed
  int width = 0, height = 0;
  std::size_t bytes = 0;  ///< of an unpacked one
};

/// One of them: the last strip is cut at the end of the image, tiles are not.
struct Chunk {
  std::uint32_t index = 0;  ///< as libtiff counts
  Rect rect;                ///< its pixels in the image
};

class TiffSource final : public ImageSource {
 public:
  TiffSource(const fs::path& path, int image)
      : file_(path),
        input_{&file_, 0, {}},
        tiff_(open_tiff(file_, input_)) {
    if (!tiff_) fail();
    const int count = static_cast<int>(TIFFNumberOfDirectories(tiff_.get()));
    require_image(path, image, count);
    if (TIFFSetDirectory(tiff_.get(), static_cast<tdir_t>(image)) != 1) fail();
    info_.image_count = count;
    describe();
    describe_chunks();
    describe_metadata();
  }

  void read(Rect rect, MutableView out) override {
    for (int y = rect.y / chunks_.height; y * chunks_.height < rect.y + rect.height; ++y) {
      for (int x = rect.x / chunks_.width; x * chunks_.width < rect.x + rect.width; ++x) {
        for (int plane = 0; plane < (chunks_.planar ? out.channels() : 1); ++plane) {
          const MutableView planes = chunks_.planar ? out.channel(plane) : out;
          read_chunk(chunk_at(x, y, plane), rect, planes);
        }
      }
    }
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(ErrorKind::bad_input,
                shown(file_.path()) + ": damaged TIFF: " + clean_text(input_.message));
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorKind::bad_input, shown(file_.path()) + ": " + what);
  }

  template <typename T>
  [[nodiscard]] T field(std::uint32_t tag, T otherwise) const {
    T value{};
    return TIFFGetFieldDefaulted(tiff_.get(), tag, &value) == 1 ? value : otherwise;
  }

  [[nodiscard]] SampleType sample_type(int bits, int format) const {
    using enum SampleType;
    if (format == SAMPLEFORMAT_IEEEFP) {
      if (bits == 16) return f16;
      if (bits == 32) return f32;
      if (bits == 64) return f64;
    } else if (format == SAMPLEFORMAT_INT) {
      if (bits == 16) return i16;
      if (bits == 32) return i32;
      if (bits == 64) return i64;
    } else if (format == SAMPLEFORMAT_UINT || format == SAMPLEFORMAT_VOID) {
      if (bits == 8) return u8;
      if (bits == 16) return u16;
      if (bits == 32) return u32;
      if (bits == 64) return u64;
    }
    const char* name = format == SAMPLEFORMAT_IEEEFP ? "-bit float"
                       : format == SAMPLEFORMAT_INT  ? "-bit signed integer"
                       : format == SAMPLEFORMAT_UINT || format == SAMPLEFORMAT_VOID
                           ? "-bit integer"
                           : "-bit complex or unknown";
    refuse(std::to_string(bits) + name + " samples; convert to 16-bit or 32-bit float");
  }

  void describe() {
    const auto width = field<std::uint32_t>(TIFFTAG_IMAGEWIDTH, 0);
    const auto height = field<std::uint32_t>(TIFFTAG_IMAGELENGTH, 0);
    const int samples = field<std::uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1);
    require_sane_size(file_.path(), width, height, samples);
    info_.size = {static_cast<int>(width), static_cast<int>(height)};
    Metadata& metadata = info_.metadata;
    metadata.format = "tiff";
    const SampleType type = sample_type(field<std::uint16_t>(TIFFTAG_BITSPERSAMPLE, 1),
                                        field<std::uint16_t>(TIFFTAG_SAMPLEFORMAT, 1));
    metadata.sample_type = type;
    metadata.scale = has_natural_white(type) ? sample_max(type) : 0.0;
    decoding_.type = type;
    decoding_.big_endian = std::endian::native == std::endian::big;  // libtiff has swapped
    stored_channels_ = samples;
    describe_colours(samples);
  }

  /// Extra samples of no stated kind are what some writers call the second and third channel.
  [[nodiscard]] int alpha_samples() const {
    std::uint16_t extra = 0;
    std::uint16_t* kinds = nullptr;
    TIFFGetFieldDefaulted(tiff_.get(), TIFFTAG_EXTRASAMPLES, &extra, &kinds);
    return static_cast<int>(std::count_if(
        kinds, kinds + extra, [](std::uint16_t kind) { return kind != EXTRASAMPLE_UNSPECIFIED; }));
  }

  void describe_colours(int samples) {
    std::uint16_t photometric = 0;
    if (TIFFGetField(tiff_.get(), TIFFTAG_PHOTOMETRIC, &photometric) != 1) {
      photometric = samples >= 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK;
    }
    switch (photometric) {
      case PHOTOMETRIC_MINISWHITE:
        if (is_float(decoding_.type)) refuse("white-is-zero floats; save as black-is-zero");
        decoding_.scale = -1.0, decoding_.offset = sample_max(decoding_.type);
        [[fallthrough]];
      case PHOTOMETRIC_MINISBLACK:
        // Some writers store three channels without calling them RGB.
        info_.channels = samples - alpha_samples() == 3 ? 3 : 1;
        break;
      case PHOTOMETRIC_RGB:
        info_.channels = 3;
        break;
      case PHOTOMETRIC_YCBCR:
        if (field<std::uint16_t>(TIFFTAG_COMPRESSION, 1) != COMPRESSION_JPEG ||
            TIFFSetField(tiff_.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB) != 1) {
          refuse("YCbCr colours; convert to RGB");
        }
        info_.channels = 3;
        break;
      case PHOTOMETRIC_PALETTE:
        refuse("palette colours; convert to RGB or greyscale");
      case PHOTOMETRIC_CFA:
        info_.bayer = "CFA";
        info_.channels = 1;
        break;
      default:
        refuse("colours of kind " + std::to_string(photometric) +
               " (CMYK, Lab, LogLuv and the like); convert to RGB or greyscale");
    }
    if (samples < info_.channels) refuse("damaged TIFF: too few samples for its colours");
    if (samples > info_.channels) {
      info_.metadata.notes.emplace_back("alpha and other extra channels were dropped");
    }
  }

  void describe_chunks() {
    chunks_.tiled = TIFFIsTiled(tiff_.get()) != 0;
    chunks_.planar =
        field<std::uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE &&
        stored_channels_ > 1;
    std::uint64_t width = static_cast<std::uint64_t>(info_.size.width);
    std::uint64_t height = field<std::uint32_t>(TIFFTAG_ROWSPERSTRIP, 0xffffffff);
    if (chunks_.tiled) {
      width = field<std::uint32_t>(TIFFTAG_TILEWIDTH, 0);
      height = field<std::uint32_t>(TIFFTAG_TILELENGTH, 0);
    } else {
      height = std::clamp<std::uint64_t>(height, 1, static_cast<std::uint64_t>(info_.size.height));
    }
    require_sane_size(file_.path(), static_cast<long long>(width), static_cast<long long>(height),
                      stored_channels_);
    chunks_.width = static_cast<int>(width);
    chunks_.height = static_cast<int>(height);
    const std::uint64_t stored = chunks_.planar ? 1 : static_cast<std::uint64_t>(stored_channels_);
    const std::uint64_t bytes = width * height * stored * sample_bytes(decoding_.type);
    const tmsize_t unpacked =
        chunks_.tiled ? TIFFTileSize(tiff_.get()) : TIFFStripSize(tiff_.get());
    if (unpacked <= 0 || static_cast<std::uint64_t>(unpacked) < bytes) {
      refuse("damaged TIFF: its strips do not hold its rows");
    }
    chunks_.bytes = static_cast<std::size_t>(unpacked);
    const std::uint64_t all = info_.size.pixels() * static_cast<std::uint64_t>(stored_channels_) *
                              sample_bytes(decoding_.type);
    const bool packed = field<std::uint16_t>(TIFFTAG_COMPRESSION, 1) != COMPRESSION_NONE;
    const std::uint64_t factor = packed ? most_per_byte : 1;
    chunks_.plain =
        !packed && field<std::uint16_t>(TIFFTAG_FILLORDER, FILLORDER_MSB2LSB) == FILLORDER_MSB2LSB;
    if (all / factor > file_.size() || bytes / most_per_byte > file_.size()) {
      refuse("the file is cut short: its header promises " + std::to_string(all) +
             " bytes of pixels");
    }
  }

  void describe_metadata() {
    Metadata& metadata = info_.metadata;
    metadata.bottom_up =
        field<std::uint16_t>(TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT) == ORIENTATION_BOTLEFT;
    const auto compression = field<std::uint16_t>(TIFFTAG_COMPRESSION, 1);
    const TIFFCodec* codec = TIFFFindCODEC(compression);
    info_.compression = compression == COMPRESSION_NONE ? "none"
                        : codec != nullptr              ? codec->name
                                                        : std::to_string(compression);
    const char* text = nullptr;
    if (TIFFGetField(tiff_.get(), TIFFTAG_IMAGEDESCRIPTION, &text) == 1 && text != nullptr) {
      metadata.description = text;
      read_cards(metadata);
    }
    std::uint32_t length = 0;
    const void* profile = nullptr;
    if (TIFFGetField(tiff_.get(), TIFFTAG_ICCPROFILE, &length, &profile) == 1) {
      const auto* bytes = static_cast<const std::byte*>(profile);
      metadata.icc_profile.assign(bytes, bytes + length);
    }
    if (info_.channels == 1 && info_.bayer.empty()) info_.bayer = bayer_pattern(metadata.cards);
  }

  /// Siril and limpid write the FITS header into the description, one card a line.
  static void read_cards(Metadata& metadata) {
    if (!metadata.description.starts_with("SIMPLE  =")) return;
    std::string_view rest = metadata.description;
    while (!rest.empty()) {
      const std::size_t end = rest.find('\n');
      std::string_view line = rest.substr(0, end);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.starts_with("END") && line.find_first_not_of(' ', 3) == std::string_view::npos)
        break;
      if (!line.empty()) append_card(metadata.cards, line);
      rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    }
    std::erase_if(metadata.cards,
                  [](const HeaderCard& card) { return is_structural(card.keyword); });
    metadata.description.clear();
  }

  [[nodiscard]] Chunk chunk_at(int x, int y, int plane) const {
    const int left = x * chunks_.width, top = y * chunks_.height;
    const auto row = static_cast<std::uint32_t>(top);
    const auto sample = static_cast<std::uint16_t>(plane);
    if (chunks_.tiled) {
      const auto column = static_cast<std::uint32_t>(left);
      return {TIFFComputeTile(tiff_.get(), column, row, 0, sample),
              {left, top, chunks_.width, chunks_.height}};
    }
    return {TIFFComputeStrip(tiff_.get(), row, sample),
            {left, top, chunks_.width, std::min(chunks_.height, info_.size.height - top)}};
  }

  /// The part of `rect` that lies in this chunk.
  void read_chunk(const Chunk& chunk, Rect rect, MutableView out) {
    const Rect part =
        intersect(intersect(chunk.rect, rect), {0, 0, info_.size.width, info_.size.height});
    const Rect inside{part.x - chunk.rect.x, part.y - chunk.rect.y, part.width, part.height};
    const MutableView target =
        out.crop({part.x - rect.x, part.y - rect.y, part.width, part.height});
    RawPixels pixels{.size = chunk.rect.size(),
                     .channels = chunks_.planar ? 1 : stored_channels_,
                     .interleaved = true,
                     .decoding = decoding_};
    if (const auto position = position_in_file(chunk, pixels.bytes())) {
      pixels.start = *position;
      pixels.decoding.big_endian = TIFFIsBigEndian(tiff_.get()) != 0;
      pixels.read(file_, inside, target);
    } else {
      load(chunk.index);
      pixels.read(*unpacked_, inside, target);
    }
  }

  /// Nothing for a chunk that libtiff must unpack or that is shorter than it should be.
  [[nodiscard]] std::optional<std::uint64_t> position_in_file(const Chunk& chunk,
                                                              std::uint64_t bytes) const {
    if (!chunks_.plain || TIFFGetStrileByteCount(tiff_.get(), chunk.index) < bytes) {
      return std::nullopt;
    }
    return TIFFGetStrileOffset(tiff_.get(), chunk.index);
  }

  void load(std::uint32_t index) {
    if (loaded_ == index) return;
    if (!unpacked_) {
      unpacked_ = std::make_unique<InputFile>(file_.path(), std::vector<std::byte>(chunks_.bytes));
    }
    loaded_.reset();
    const std::span<std::byte> bytes = unpacked_->memory();
    // What a short strip does not fill stays without data, not what was there before.
    std::ranges::fill(bytes, std::byte{0});
    const auto size = static_cast<tmsize_t>(bytes.size());
    const tmsize_t got = chunks_.tiled
                             ? TIFFReadEncodedTile(tiff_.get(), index, bytes.data(), size)
                             : TIFFReadEncodedStrip(tiff_.get(), index, bytes.data(), size);
    if (got < 0) fail();
    loaded_ = index;
  }

  InputFile file_;
  TiffInput input_;
  TiffHandle tiff_;
  Chunks chunks_;
  Decoding decoding_;
  int stored_channels_ = 1;
  std::unique_ptr<InputFile> unpacked_;  ///< the strip or tile unpacked last
  std::optional<std::uint32_t> loaded_;  ///< and which it is
};

bool recognises(std::span<const std::byte> head) {
  if (head.size() < 8) return false;
  static constexpr std::array<const char*, 4> magics{"II\x2a\0", "MM\0\x2a", "II\x2b\0",
                                                     "MM\0\x2b"};
  return std::ranges::any_of(
      magics, [&](const char* magic) { return std::memcmp(head.data(), magic, 4) == 0; });
}

std::unique_ptr<ImageSource> open(const fs::path& path, int image) {
  return std::make_unique<TiffSource>(path, image);
}

}  // namespace

Format tiff_format() {
  using enum SampleType;
  return {
      .name = "tiff",
      .endings = {".tif", ".tiff"},
      .writable = {u8, u16, i16, u32, i32, f16, f32, f64},
      .compressions = {Compression::none, Compression::zlib, Compression::zstd, Compression::lzw},
      .checksums = false,
      .recognises = recognises,
      .open = open,
      .write = write_tiff};
}

}  // namespace limpid::io
