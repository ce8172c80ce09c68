// What a file format has to offer, and the table of those that exist.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include <limpid/io.h>

#include "files.h"
#include "samples.h"

namespace limpid::io {

/// One image of an open file.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  /// `metadata.scale` is zero where only the pixels tell it (floats and other free ranges).
  [[nodiscard]] const FrameInfo& info() const { return info_; }
  /// The samples of `rect` in the file's own units, NaN where the file has no data.
  virtual void read(Rect rect, MutableView out) = 0;
  /// Whether several threads may read() at once.
  [[nodiscard]] virtual bool concurrent() const { return false; }

 protected:
  FrameInfo info_;
};

/// A frame and what was decided about its samples: stored = offset + scale * pixel.
struct WriteJob {
  const Frame& frame;
  SampleType type;
  double scale, offset;
  const WriteOptions& options;
  const Progress& progress;
};

struct Format {
  std::string_view name;
  std::vector<std::string_view> endings;  ///< lower case, empty for a format that is only read
  std::vector<SampleType> writable;
  std::vector<Compression> compressions;
  bool checksums;  ///< WriteOptions::checksum can be had
  /// `head` are the first bytes of a file, 4096 or all there are.
  bool (*recognises)(std::span<const std::byte> head);
  std::unique_ptr<ImageSource> (*open)(const std::filesystem::path& path, int image);
  void (*write)(OutputFile& file, const WriteJob& job);
};

Format fits_format();
Format xisf_format();
Format tiff_format();
Format png_format();
Format jpeg_format();

/// Throws unless 1 <= width, height, and the frame's samples can be counted without overflow.
void require_sane_size(const std::filesystem::path& path, long long width, long long height,
                       long long channels);
/// Throws unless image `index` is one of `count`.
void require_image(const std::filesystem::path& path, int index, int count);

/// Printable one-line copy of a text from a file: for notes and messages.
std::string clean_text(std::string_view text);

/// FITS cards, shared by FITS, XISF (FITSKeyword) and TIFF (Siril's description).
/// One 80-column card; `text` may be shorter.
HeaderCard parse_card(std::string_view text);
/// Appends a card, or continues the one before it (long strings, CONTINUE).
void append_card(std::vector<HeaderCard>& cards, std::string_view text);
/// As many 80-column cards as the value needs.
std::vector<std::string> format_card(const HeaderCard& card);
/// The text of a quoted value ('it''s'), and back.
std::string parse_card_string(std::string_view quoted);
std::string format_card_string(std::string_view text);
/// Keywords that describe the data unit and not the picture: written anew, never copied.
bool is_structural(std::string_view keyword);
/// The colour filter pattern that the cards of a one-channel frame name, else empty.
std::string bayer_pattern(const std::vector<HeaderCard>& cards);
/// The cards to be written for this frame: its own without structure, row order and history.
std::vector<HeaderCard> cards_to_write(const WriteJob& job);

}  // namespace limpid::io
