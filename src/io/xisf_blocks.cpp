#include "xisf_blocks.h"

#include <openssl/evp.h>
#include <strings.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

#include <limpid/error.h>

#include "format.h"
#include "xisf_codecs.h"

namespace limpid::io {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int digit_value(char c, bool base64_digits) {
  if (!base64_digits) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  }
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

/// Base64 or hexadecimal digits with white space between them; nothing when there is anything else.
std::optional<std::vector<std::byte>> decode_text(std::string_view text, bool base64_digits) {
  const int digit_bits = base64_digits ? 6 : 4;
  std::vector<std::byte> bytes;
  bytes.reserve(text.size() * static_cast<std::size_t>(digit_bits) / 8);
  unsigned buffer = 0;
  int bits = 0;
  for (const char c : text) {
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '=') continue;
    const int value = digit_value(c, base64_digits);
    if (value < 0) return std::nullopt;
    buffer = (buffer << digit_bits) | static_cast<unsigned>(value);
    bits += digit_bits;
    if (bits >= 8) {
      bits -= 8;
      bytes.push_back(static_cast<std::byte>(buffer >> bits));
      buffer &= (1U << bits) - 1;
    }
  }
  return bytes;
}

using DigestContext = std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)>;

std::string hexadecimal(std::span<const unsigned char> bytes) {
  std::string text;
  for (const unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

/// XISF writes "sha-1", PixInsight "sha1"; both mean the same.
const EVP_MD* digest_called(std::string name) {
  std::erase(name, '-');
  if (strcasecmp(name.c_str(), "sha1") == 0) return EVP_sha1();
  if (strcasecmp(name.c_str(), "sha256") == 0) return EVP_sha256();
  if (strcasecmp(name.c_str(), "sha512") == 0) return EVP_sha512();
  if (strcasecmp(name.c_str(), "sha3256") == 0) return EVP_sha3_256();
  if (strcasecmp(name.c_str(), "sha3512") == 0) return EVP_sha3_512();
  return nullptr;
}

const char* checksum_name(Checksum checksum) {
  switch (checksum) {
    case Checksum::sha1:
      return "sha-1";
    case Checksum::sha256:
      return "sha-256";
    case Checksum::sha512:
      return "sha-512";
    case Checksum::sha3_256:
      return "sha3-256";
    case Checksum::sha3_512:
      return "sha3-512";
    case Checksum::none:
      break;
  }
  return "";
}

std::string finish_digest(EVP_MD_CTX* context) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  EVP_DigestFinal_ex(context, digest.data(), &length);
  return hexadecimal(std::span(digest).first(length));
}

}  // namespace

std::string xisf_attribute(pugi::xml_node node, const char* name) {
  if (const auto exact = node.attribute(name)) return exact.value();
  for (const pugi::xml_attribute attribute : node.attributes()) {
    if (strcasecmp(attribute.name(), name) == 0) return attribute.value();
  }
  return {};
}

XisfBlock::XisfBlock(const InputFile& file, pugi::xml_node element) : file_(&file) {
  parse_location(element);
  // An embedded block may carry these on its Data element instead.
  const pugi::xml_node data = element.child("Data");
  const auto attribute = [&](const char* name) {
    const std::string own = xisf_attribute(element, name);
    return own.empty() && in_header_ ? xisf_attribute(data, name) : own;
  };
  big_endian_ = strcasecmp(attribute("byteOrder").c_str(), "big") == 0;
  checksum_ = attribute("checksum");
  const std::string compression = attribute("compression");
  if (!compression.empty()) parse_compression(compression, attribute("subblocks"));
}

void XisfBlock::fail(const std::string& what) const {
  throw Error(ErrorKind::bad_input, shown(file_->path()) + ": " + what);
}

void XisfBlock::parse_location(pugi::xml_node element) {
  const std::string location = xisf_attribute(element, "location");
  const std::vector<std::string> parts = split(location, ':');
  if (parts[0] == "attachment" && parts.size() == 3) {
    const auto position = whole_number(parts[1]);
    const auto size = whole_number(parts[2]);
    if (!position || !size) fail("damaged XISF: location " + clean_text(location));
    if (*position > file_->size() || *size > file_->size() - *position) {
      fail("the file is cut short: a data block lies beyond its end");
    }
    position_ = *position;
    stored_size_ = *size;
  } else if (parts[0] == "inline" && parts.size() == 2) {
    parse_inline(element, parts[1]);
  } else if (parts[0] == "embedded") {
    const pugi::xml_node data = element.child("Data");
    parse_inline(data, xisf_attribute(data, "encoding"));
  } else if (parts[0].starts_with("url(") || parts[0].starts_with("path(")) {
    fail("its data lie in another file (" + clean_text(location) +
         "); save it as one monolithic XISF file");
  } else {
    fail("damaged XISF: location '" + clean_text(location) + "'");
  }
}

void XisfBlock::parse_inline(pugi::xml_node element, const std::string& encoding) {
  const bool is_base64 = encoding == "base64";
  if (!is_base64 && encoding != "hex" && encoding != "base16") {
    fail("damaged XISF: encoding '" + clean_text(encoding) + "'");
  }
  auto decoded = decode_text(element.text().get(), is_base64);
  if (!decoded) fail("damaged XISF: a data block is not " + encoding);
  in_header_ = true;
  header_bytes_ = std::move(*decoded);
  stored_size_ = header_bytes_.size();
}

void XisfBlock::parse_compression(const std::string& text, const std::string& parts) {
  const std::vector<std::string> fields = split(text, ':');
  codec_ = fields[0];
  if (codec_.ends_with("+sh")) {
    shuffled_ = true;
    codec_.resize(codec_.size() - 3);
  }
  if (codec_ == "lz4-hc") codec_ = "lz4hc";
  if (codec_ != "zlib" && codec_ != "lz4" && codec_ != "lz4hc" && codec_ != "zstd") {
    fail("compression '" + clean_text(text) + "' is not part of XISF 1.0");
  }
  const auto size = fields.size() > 1 ? whole_number(fields[1]) : std::nullopt;
  const auto item = fields.size() > 2 ? whole_number(fields[2]) : std::uint64_t{1};
  if (!size || !item || *item < 1 || *item > 1024) {
    fail("damaged XISF: compression '" + clean_text(text) + "'");
  }
  packed_ = true;
  unpacked_size_ = *size;
  item_size_ = *item;
  if (parts.empty()) {
    parts_ = {{stored_size_, unpacked_size_}};
  } else {
    for (const std::string& part : split(parts, ':')) {
      const std::vector<std::string> sizes = split(part, ',');
      const auto packed = whole_number(sizes[0]);
      const auto unpacked = sizes.size() == 2 ? whole_number(sizes[1]) : std::nullopt;
      if (!packed || !unpacked) fail("damaged XISF: subblocks");
      parts_.push_back({*packed, *unpacked});
    }
  }
  require_plausible_size();
}

void XisfBlock::require_plausible_size() const {
  std::uint64_t packed = 0, unpacked = 0;
  for (const Part& part : parts_) {
    // Compared one by one, so that no sum can wrap.
    if (part.packed > stored_size_ - packed || part.unpacked > unpacked_size_ - unpacked ||
        part.unpacked / most_per_byte(codec_) > part.packed) {
      fail("damaged XISF: a block of " + std::to_string(stored_size_) + " bytes cannot unpack to " +
           std::to_string(unpacked_size_));
    }
    packed += part.packed;
    unpacked += part.unpacked;
  }
  if (unpacked != unpacked_size_) fail("damaged XISF: subblocks do not fill the block");
}

std::string XisfBlock::compression() const {
  return packed_ ? codec_ + (shuffled_ ? "+sh" : "") : "none";
}

std::optional<XisfBlock::Stored> XisfBlock::attachment() const {
  if (in_header_) return std::nullopt;
  return Stored{position_, stored_size_};
}

std::optional<std::uint64_t> XisfBlock::position_in_file() const {
  if (packed_ || in_header_) return std::nullopt;
  return position_;
}

void XisfBlock::verify() const {
  if (checksum_.empty()) return;
  const std::vector<std::string> fields = split(checksum_, ':');
  const EVP_MD* digest = digest_called(fields[0]);
  if (digest == nullptr || fields.size() != 2) {
    fail("damaged XISF: checksum '" + clean_text(checksum_) + "'");
  }
  const DigestContext context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), digest, nullptr);
  if (in_header_) {
    EVP_DigestUpdate(context.get(), header_bytes_.data(), header_bytes_.size());
  } else {
    std::vector<std::byte> chunk(
        static_cast<std::size_t>(std::min<std::uint64_t>(stored_size_, std::uint64_t{1} << 20)));
    for (std::uint64_t done = 0; done < stored_size_;) {
      const auto part = std::span(chunk).first(
          static_cast<std::size_t>(std::min<std::uint64_t>(chunk.size(), stored_size_ - done)));
      file_->read_at(position_ + done, part);
      EVP_DigestUpdate(context.get(), part.data(), part.size());
      done += part.size();
    }
  }
  if (strcasecmp(finish_digest(context.get()).c_str(), fields[1].c_str()) != 0) {
    fail("the " + fields[0] + " checksum does not match: the file is damaged");
  }
}

std::vector<std::byte> XisfBlock::bytes() const {
  std::vector<std::byte> stored =
      in_header_ ? header_bytes_ : file_->read_at(position_, stored_size_);
  if (!packed_) return stored;
  std::vector<std::byte> unpacked(static_cast<std::size_t>(unpacked_size_));
  std::span<const std::byte> from = stored;
  std::span<std::byte> to = unpacked;
  for (const Part& part : parts_) {
    const auto packed_bytes = static_cast<std::size_t>(part.packed);
    const auto unpacked_bytes = static_cast<std::size_t>(part.unpacked);
    if (!unpack(codec_, from.first(packed_bytes), to.first(unpacked_bytes))) {
      fail("damaged XISF: a " + codec_ + " block does not unpack");
    }
    from = from.subspan(packed_bytes);
    to = to.subspan(unpacked_bytes);
  }
  return shuffled_ ? unshuffle(unpacked, static_cast<std::size_t>(item_size_)) : unpacked;
}

PackedBlock pack_block(std::vector<std::byte> bytes, Compression compression,
                       std::size_t item_bytes, std::size_t most_at_once) {
  PackedBlock block;
  const std::size_t size = bytes.size();
  const bool shuffled = item_bytes > 1;
  if (shuffled) bytes = shuffle(bytes, item_bytes);
  std::span<const std::byte> rest = bytes;
  while (!rest.empty()) {
    const auto part = rest.first(std::min(rest.size(), most_at_once));
    const std::size_t before = block.bytes.size();
    pack(compression, part, block.bytes);
    block.subblocks += (block.subblocks.empty() ? "" : ":") +
                       std::to_string(block.bytes.size() - before) + "," +
                       std::to_string(part.size());
    rest = rest.subspan(part.size());
  }
  if (size <= most_at_once) block.subblocks.clear();
  block.compression = compression == Compression::zlib  ? "zlib"
                      : compression == Compression::lz4 ? "lz4"
                                                        : "zstd";
  if (shuffled) block.compression += "+sh";
  block.compression += ":" + std::to_string(size);
  if (shuffled) block.compression += ":" + std::to_string(item_bytes);
  return block;
}

std::string block_checksum(std::span<const std::byte> bytes, Checksum checksum) {
  const std::string name = checksum_name(checksum);
  const DigestContext context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), digest_called(name), nullptr);
  EVP_DigestUpdate(context.get(), bytes.data(), bytes.size());
  return name + ":" + finish_digest(context.get());
}

std::string base64(std::span<const std::byte> bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

}  // namespace limpid::io
