// XISF data blocks: where they lie, how they are packed, how they are checked (XISF 1.0, sections
// 10 and 11).
#pragma once

#include <string>
#include <vector>

#include <pugixml.hpp>

#include "files.h"
#include "samples.h"

namespace limpid::io {

/// An attribute whatever the case of its name: some writers shout.
std::string xisf_attribute(pugi::xml_node node, const char* name);

/// A data block as an element describes it.
class XisfBlock {
 public:
  /// Throws Error(bad_input) for places outside the file and for anything not understood.
  XisfBlock(const InputFile& file, pugi::xml_node element);

  [[nodiscard]] bool big_endian() const { return big_endian_; }
  /// "none" or as in the file, without sizes: "zstd+sh".
  [[nodiscard]] std::string compression() const;
  /// The algorithm, "sha-256"; empty without one.
  [[nodiscard]] std::string checksum() const { return checksum_.substr(0, checksum_.find(':')); }
  /// Bytes of the unpacked block.
  [[nodiscard]] std::uint64_t size() const { return packed_ ? unpacked_size_ : stored_size_; }
  /// Where a block that lies behind the header starts, and how many bytes it has there.
  struct Stored {
    std::uint64_t position = 0, size = 0;
  };
  [[nodiscard]] std::optional<Stored> attachment() const;
  /// Where the bytes lie in the file as they are, if they do.
  [[nodiscard]] std::optional<std::uint64_t> position_in_file() const;
  /// Compares the checksum, if there is one, in little memory.
  void verify() const;
  /// The unpacked bytes; not verified.
  [[nodiscard]] std::vector<std::byte> bytes() const;

 private:
  struct Part {
    std::uint64_t packed = 0, unpacked = 0;
  };
  [[noreturn]] void fail(const std::string& what) const;
  void parse_location(pugi::xml_node element);
  void parse_inline(pugi::xml_node element, const std::string& encoding);
  void parse_compression(const std::string& text, const std::string& parts);
  void require_plausible_size() const;

  const InputFile* file_;
  std::uint64_t position_ = 0, stored_size_ = 0;
  bool in_header_ = false;
  std::vector<std::byte> header_bytes_;  ///< inline and embedded blocks
  bool big_endian_ = false, packed_ = false, shuffled_ = false;
  std::string codec_, checksum_;
  std::uint64_t unpacked_size_ = 0, item_size_ = 1;
  std::vector<Part> parts_;
};

/// Packed bytes and the attributes that say how.
struct PackedBlock {
  std::vector<std::byte> bytes;
  std::string compression, subblocks;
};
/// `most_at_once`: longer blocks are packed in parts, as the codecs' 32-bit lengths demand.
PackedBlock pack_block(std::vector<std::byte> bytes, Compression compression,
                       std::size_t item_bytes, std::size_t most_at_once = std::size_t{1} << 30);
/// "sha-256:..." for the `checksum` attribute.
std::string block_checksum(std::span<const std::byte> bytes, Checksum checksum);

std::string base64(std::span<const std::byte> bytes);

}  // namespace limpid::io
