// Image files: FITS, XISF, TIFF, PNG (and JPEG for reading), with all that they carry.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <limpid/image.h>
#include <limpid/progress.h>

namespace limpid {

enum class SampleType { u8, u16, u32, u64, i16, i32, i64, f16, f32, f64 };

/// One FITS header card, in the file's order. `value` is as written in the card (strings without
/// their quotes; `is_string` tells); COMMENT and HISTORY have their text in `comment`.
struct HeaderCard {
  std::string keyword, value, comment;
  bool is_string = false;
};

/// One XISF property (XISF 1.0, section 8.4), value as text; vectors, matrices and long strings as
/// their raw little-endian bytes in `data` with `shape`.
struct Property {
  std::string id, type, value, format, comment;
  std::vector<std::byte> data;
  std::vector<std::size_t> shape;
};

/// A small 8-bit picture, shape (channels, height, width); empty when the file has none.
struct Thumbnail {
  Size size;
  int channels = 0;
  std::vector<std::byte> samples;
};

/// Images that lie in a file beside the one that was read.
struct OtherImages {
  std::filesystem::path file;
  std::vector<int> indices;  ///< as ReadOptions::image counts
};

/// What a file says beside its pixels. Survives a round trip in the same format, and as far as the
/// target can hold it in another.
struct Metadata {
  std::string format;                        ///< "fits", "xisf", "tiff", "png", "jpeg"
  SampleType sample_type = SampleType::f32;  ///< of the stored samples
  /// stored value = offset + scale * pixel value. Unsigned integers and signed ones of 16 bits map
  /// their largest value to 1, zero stays zero. Floats, and integers without a natural white
  /// (signed 32 and 64 bits, FITS with BSCALE), are divided by the smallest of 1, 2^8, 2^16, 2^32
  /// that brings them to about [0,1] (peaks up to 16, with 2^8 up to 2: restored stars rise above
  /// the clipping), or by 2^-8, 2^-16, ... when all are tiny: powers of two keep every bit.
  double scale = 1.0, offset = 0.0;
  bool bottom_up = false;  ///< rows stored bottom first (FITS without ROWORDER TOP-DOWN)
  std::vector<HeaderCard> cards;
  std::vector<Property> properties;
  std::vector<std::byte> icc_profile;
  std::string description;                 ///< TIFF ImageDescription, PNG Description
  std::vector<std::string> xisf_elements;  ///< RGBWorkingSpace, DisplayFunction, Resolution: as XML
  Thumbnail thumbnail;                     ///< of an XISF image
  OtherImages others;                      ///< of an XISF file; copied from there into XISF files
  std::vector<std::string> notes;          ///< what the reader did that the user should know
  /// Value of the first card with this keyword.
  [[nodiscard]] std::optional<std::string> card(const std::string& keyword) const;
  /// What the file has, or would have, for a pixel of this value.
  [[nodiscard]] double stored(float pixel) const {
    return offset + scale * static_cast<double>(pixel);
  }
};

struct Frame {
  Image image;
  Metadata metadata;
};

/// What is known without reading the pixels.
struct FrameInfo {
  Size size;
  int channels = 0;
  int image_count = 1;
  std::string compression;               ///< "none", "rice_1", "zlib+sh", ...
  std::string checksum;                  ///< of the pixels in an XISF file: "sha-256"; else empty
  std::string bayer;                     ///< pattern of a mosaiced frame, else empty
  std::vector<std::string> image_names;  ///< of every image in the file, where it names them
  Metadata metadata;
};

struct ReadOptions {
  int image = 0;    ///< which image of a file that holds several
  int threads = 1;  ///< of read_frame, where the format lets them share the work; 0: all cores
};

/// Reads by content, not by name; the path "-" is standard input, here and below. 1 or 3 channels.
/// Throws Error(bad_input), naming the file.
Frame read_frame(const std::filesystem::path& path, const ReadOptions& options = {},
                 const Progress& progress = {});
/// `metadata.scale` is 1 where only the pixels tell it.
FrameInfo read_info(const std::filesystem::path& path, const ReadOptions& options = {});
/// A part of the frame with the same scaling as read_frame, without holding the rest where the
/// format allows (FITS, uncompressed XISF, TIFF). `rect` must lie inside the frame. For more than
/// one tile of a file a TileReader is cheaper.
Image read_tile(const std::filesystem::path& path, Rect rect, const ReadOptions& options = {});

namespace io {
class ImageSource;
}

/// Reads parts of one image again and again. Opening it passes once over samples whose range only
/// they can tell (floats); a read then touches what it needs. One thread at a time.
class TileReader {
 public:
  explicit TileReader(const std::filesystem::path& path, const ReadOptions& options = {},
                      const Progress& progress = {});
  ~TileReader();
  TileReader(TileReader&&) noexcept;
  TileReader& operator=(TileReader&&) noexcept;

  /// With the scale that read_frame finds.
  [[nodiscard]] const FrameInfo& info() const { return info_; }
  /// `rect` must lie inside the frame.
  [[nodiscard]] Image read(Rect rect);

 private:
  std::unique_ptr<io::ImageSource> source_;
  FrameInfo info_;
};

enum class Depth { as_input, u8, u16, f32 };
enum class Compression { none, zlib, lz4, zstd, rice, lzw };
enum class Checksum { none, sha1, sha256, sha512, sha3_256, sha3_512 };

struct WriteOptions {
  Depth depth = Depth::as_input;
  Compression compression = Compression::none;
  Checksum checksum = Checksum::none;  ///< of each block, XISF only
  bool overwrite = false;
  /// One of format_names(); without one the ending of the path decides, and for standard output the
  /// format that the frame came in (FITS where that cannot be written).
  std::string format = {};
  /// One line for the file's history: the exact command, version and model.
  std::string history = {};
};

/// Written beside the target, flushed to disk and renamed: the target is either the old file or the
/// complete new one. The path "-" is standard output, which gets complete files only, too. Throws
/// Error(cannot_write), and Error(usage) for an ending or a combination of options that no format
/// has.
void write_frame(const std::filesystem::path& path, const Frame& frame,
                 const WriteOptions& options = {}, const Progress& progress = {});
/// Throws what write_frame would throw before any work is done: an unknown ending, a folder that
/// does not exist or cannot be written, an existing file without overwrite.
void check_writable(const std::filesystem::path& path, const WriteOptions& options = {});
/// Writes text or bytes whole or not at all, with the same rules.
void write_file_atomically(const std::filesystem::path& path, const void* data, std::size_t bytes,
                           bool overwrite);

/// A picture (values in [0, 1], 1 or 3 channels, top row first) as an 8-bit PNG file in memory,
/// packed fast rather than small.
std::vector<std::byte> encode_png(ConstView picture);

/// Endings that write_frame knows, such as ".fits".
std::vector<std::string> writable_endings();
std::vector<std::string> format_names();

/// The frame's pixels as they would be if its file were read with the scale of another one: equal
/// stored values become equal pixels.
Image in_scale_of(Frame frame, const Metadata& other);

/// How the pixels of a result lie in the frame whose metadata it gets.
struct GridChange {
  Rect part;               ///< of the frame
  int factor = 1;          ///< so many pixels per side in place of one, which share its light
  bool as_floats = false;  ///< stored as floats, which end at one where integers were read
};
/// Makes the metadata of a frame of this size true of the result: CRPIX, CD, CDELT, SIP, LTV and
/// LTM, sizes and scales of pixels, levels (SATURATE, DATAMAX). Sections (DATASEC) of another grid
/// go, and so does PixInsight's own astrometric solution, splines and all, of moved or finer
/// pixels: the cards stay. Returns the names of what went.
std::vector<std::string> change_grid(Metadata& metadata, Size frame, const GridChange& change);

/// Arcseconds per pixel from CDELT/CD/XPIXSZ+FOCALLEN or their XISF properties.
std::optional<double> pixel_scale_arcsec(const Metadata& metadata);

}  // namespace limpid
